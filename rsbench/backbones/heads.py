"""Frozen towers whose features are computed once and cached, and the small heads trained on them.

One projection per modality is shared by pooled vectors and tokens. Its inputs are standardised with statistics of
the training images, or of the training captions; these live in buffers, so that a checkpoint alone can read
another dataset.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rsbench.backbones.base import SPECIAL, Backbone, Features, Fields, Inputs
from rsbench.backbones.cache import cached, cached_rows, texts_hash
from rsbench.backbones.scaling import Scaling, statistics
from rsbench.backbones.seeded import seeded_init
from rsbench.data.dataset import Dataset, Ints
from rsbench.progress import Progress, silent


@dataclass
class RawFeatures:
    """What a frozen tower says of n images or texts.

    Attributes:
        pooled: ``[n, W]``.
        tokens: ``[n, L, W]`` with one L for all calls (pad texts), or None.
        kind: int8 ``[n, L]`` of ``CONTENT``, ``SPECIAL``, ``PAD``; None without tokens.
    """

    pooled: Tensor
    tokens: Tensor | None = None
    kind: Tensor | None = None

    def arrays(self) -> dict[str, Tensor]:
        """Named tensors as stored: pooled in fp32, tokens in fp16."""
        found = {"pooled": self.pooled.float()}
        if self.tokens is not None and self.kind is not None:
            found |= {"tokens": self.tokens.half(), "kind": self.kind.to(torch.int8)}
        return found


def projection(width: int, hidden: int, dim: int, dropout: float) -> nn.Sequential:
    """Two-layer perceptron ``[..., width] -> [..., dim]``."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim))


class CachedHeads(Backbone):
    """Base of backbones with frozen towers and trained heads (tuning ``heads``).

    A subclass passes the widths of its towers and implements ``image_features``, ``text_features`` and
    ``tower_key``; caching, resuming, progress, statistics and the heads are done here. A subclass that fits its
    own towers does so in ``fit`` before calling ``super().fit``. Towers that are not part of a checkpoint are
    kept out of the module tree and loaded on first use.

    Args:
        tuning: name of the tuning.
        weights: kind of weights of the towers.
        seed: of the heads' initialisation.
        image_width: W of the image tower.
        text_width: W of the text tower.
        hidden: width inside the heads.
        dim: of the joint space.
        dropout: inside the heads.
        pca: reduce inputs to this many dimensions, 0 for none.
    """

    def __init__(
        self,
        tuning: str,
        weights: str,
        seed: int,
        *,
        image_width: int,
        text_width: int,
        hidden: int,
        dim: int,
        dropout: float,
        pca: int = 0,
    ) -> None:
        super().__init__()
        self.tuning, self.weights, self.dim, self.pca = tuning, weights, dim, pca
        self.image_scaling, self.text_scaling = Scaling(image_width, pca), Scaling(text_width, pca)
        with seeded_init(seed):
            self.image_head = projection(self.image_scaling.out, hidden, dim, dropout)
            self.text_head = projection(self.text_scaling.out, hidden, dim, dropout)

    @abstractmethod
    def image_features(self, pixels: npt.NDArray[np.uint8]) -> RawFeatures:
        """Frozen features of images uint8 ``[n, H, W, 3]``; called with a few hundred at a time."""

    @abstractmethod
    def text_features(self, texts: Sequence[str]) -> RawFeatures:
        """Frozen features of n strings; called with a few hundred at a time."""

    @abstractmethod
    def tower_key(self, modality: str) -> Mapping[str, Any]:
        """JSON values on which the features of ``"image"`` or ``"text"`` depend, weights hash included."""

    def fit(self, dataset: Dataset, split: str, cache: Path, progress: Progress = silent) -> None:
        """Learn mean, std and, with ``pca``, a basis from the training images and their own distinct captions.

        Raises:
            UsageError: the dataset has no such split.
        """
        images = np.sort(dataset.part(split, "train"))
        texts = np.unique(dataset.caption_text[np.isin(dataset.caption_image, images)])
        self._fit("image", self.image_scaling, images, dataset, cache, progress)
        self._fit("text", self.text_scaling, texts, dataset, cache, progress)

    def inputs(self, dataset: Dataset, cache: Path, tokens: bool = False, progress: Progress = silent) -> Inputs:
        """Standardised features of every image and every distinct text; tokens in fp16, only where asked for."""
        image = self._raw("image", dataset, cache, tokens, progress)
        text = self._raw("text", dataset, cache, tokens, progress)
        return Inputs(self.image_scaling.features(image), self.text_scaling.features(text))

    def encode_image(self, x: Fields) -> Features:
        """Features of rows of ``Inputs.image``."""
        return self.project_image(*self.image_states(x)) if "tokens" in x else Features(self.image_head(x["pooled"]))

    def encode_text(self, x: Fields) -> Features:
        """Features of rows of ``Inputs.text``."""
        return self.project_text(*self.text_states(x)) if "tokens" in x else Features(self.text_head(x["pooled"]))

    def image_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Standardised tower outputs, the pooled one first."""
        return _states(x)

    def text_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Standardised tower outputs, the pooled one first."""
        return _states(x)

    def project_image(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Features of standardised tower outputs, the pooled one first."""
        return projected(self.image_head, hidden, kind, tokens)

    def project_text(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Features of standardised tower outputs, the pooled one first."""
        return projected(self.text_head, hidden, kind, tokens)

    def width(self, modality: str) -> int:
        """Channels of the tower, or what the reduction keeps of them."""
        return self.image_scaling.out if modality == "image" else self.text_scaling.out

    def facts(self) -> dict[str, Any]:
        """Keys of the two towers."""
        return {"image_tower": dict(self.tower_key("image")), "text_tower": dict(self.tower_key("text"))}

    def _fit(
        self, modality: str, scaling: Scaling, rows: Ints, dataset: Dataset, cache: Path, progress: Progress
    ) -> None:
        key = self._key(modality, dataset)
        key |= {"what": f"{modality} statistics", "pca": self.pca, "rows": hashlib.sha256(rows.tobytes()).hexdigest()}

        def compute() -> dict[str, Tensor]:
            raw = self._raw(modality, dataset, cache, self.pca > 0, progress)
            return statistics(raw, torch.from_numpy(rows), scaling.out if self.pca else 0)

        scaling.load(cached(cache, key, compute))

    def _key(self, modality: str, dataset: Dataset) -> dict[str, Any]:
        content = dataset.images_hash if modality == "image" else texts_hash(dataset.texts)
        return {
            "what": f"{modality} features",
            "backbone": self.card.name,
            "revision": self.card.revision,
            "tower": dict(self.tower_key(modality)),
            "content": content,
        }

    def _raw(self, modality: str, dataset: Dataset, cache: Path, tokens: bool, progress: Progress) -> dict[str, Tensor]:
        texts, images = dataset.texts, dataset.images

        def compute(start: int, stop: int) -> dict[str, Tensor]:
            image = modality == "image"
            with torch.inference_mode():
                raw = self.image_features(images[start:stop]) if image else self.text_features(texts[start:stop])
            return raw.arrays()

        rows = len(images) if modality == "image" else len(texts)
        names = ("pooled", "tokens", "kind") if tokens else ("pooled",)
        return cached_rows(cache, self._key(modality, dataset), rows, compute, names=names, progress=progress)


def _states(x: Fields) -> tuple[Tensor, Tensor]:
    return led(x["pooled"], x["tokens"].float(), x["kind"])


def led(pooled: Tensor, tokens: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states ``[B, 1 + L, W]`` and kinds: the pooled vector leads as a special token, as a class token would."""
    return torch.cat([pooled[:, None], tokens], dim=1), nn.functional.pad(kind, (1, 0), value=SPECIAL)


def projected(head: nn.Module, hidden: Tensor, kind: Tensor, tokens: bool) -> Features:
    """Features of states with a leading pooled one, through a head that acts on each alone."""
    if not tokens:
        return Features(head(hidden[:, 0]))
    found = head(hidden)
    return Features(found[:, 0], found, kind, hidden)
