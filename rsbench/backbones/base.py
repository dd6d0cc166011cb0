"""The contract of a backbone: features, inputs, and the module that joins them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rsbench.backbones.card import BackboneCard
from rsbench.data.dataset import Dataset
from rsbench.progress import Progress, silent

CONTENT, SPECIAL, PAD = 0, 1, 2
"""Kinds of tokens: a word or patch, a class/start/end token, padding."""


@dataclass
class Features:
    """Features of B images or texts in the joint space.

    Attributes:
        pooled: ``[B, D]``, not normalised.
        tokens: ``[B, L, D]`` or None.
        kind: int8 ``[B, L]``, ``CONTENT``, ``SPECIAL`` or ``PAD``; None without tokens.
        hidden: ``[B, L, W]``, what ``project_image`` or ``project_text`` turns into pooled and tokens: the output of
            the tower's last block, before its last norm and projection.
    """

    pooled: Tensor
    tokens: Tensor | None = None
    kind: Tensor | None = None
    hidden: Tensor | None = None

    def __len__(self) -> int:
        return self.pooled.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> Features:
        return self.map(lambda t: t[rows])

    def map(self, fn: Callable[[Tensor], Tensor]) -> Features:
        """Apply a function to every tensor that is there."""
        parts = (self.pooled, self.tokens, self.kind, self.hidden)
        pooled, tokens, kind, hidden = (None if t is None else fn(t) for t in parts)
        assert pooled is not None
        return Features(pooled, tokens, kind, hidden)


def concatenate(parts: list[Features]) -> Features:
    """Join features of consecutive blocks along the first axis."""

    def join(name: str) -> Tensor | None:
        tensors = [getattr(p, name) for p in parts]
        return None if tensors[0] is None else torch.cat(tensors)

    pooled = join("pooled")
    assert pooled is not None
    return Features(pooled, join("tokens"), join("kind"), join("hidden"))


Fields = Mapping[str, Tensor]


@dataclass
class Inputs:
    """What a backbone's towers read, for a whole dataset.

    Attributes:
        image: tensors whose first axis is the image id (pixels of the store, or cached features).
        text: tensors whose first axis is the row in ``Dataset.texts`` (token ids, or cached features).
    """

    image: Fields
    text: Fields

    def images(self, ids: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Rows of some images on a device."""
        return _rows(self.image, ids, device)

    def texts(self, ids: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Rows of some distinct texts on a device."""
        return _rows(self.text, ids, device)


def _rows(fields: Fields, ids: Tensor, device: torch.device) -> dict[str, Tensor]:
    """Gathered where the tensors lie: in memory, on disk, or on the device already."""
    return {k: v.index_select(0, ids.to(v.device)).to(device, non_blocking=True) for k, v in fields.items()}


class Backbone(nn.Module, ABC):
    """Two towers over one joint space of ``dim`` dimensions.

    Life of a backbone: construct -> ``fit`` on the training part -> ``inputs`` for any dataset ->
    ``encode_image`` / ``encode_text`` on rows of those inputs. Everything ``fit`` learns (feature statistics,
    word vectors, vocabularies) lives in buffers, so that a checkpoint alone can encode another dataset.
    The constructor takes ``(tuning, weights, seed, **card.params)`` and allocates every parameter and buffer at
    its final shape or lets ``load_state_dict`` resize it.
    """

    card: ClassVar[BackboneCard]
    dim: int
    tuning: str

    @property
    def capabilities(self) -> frozenset[str]:
        """What this backbone gives with its tuning."""
        return self.card.capabilities[self.tuning]

    def fit(self, dataset: Dataset, split: str, cache: Path, progress: Progress = silent) -> None:
        """Learn statistics from the training images and their own captions (never from the noisy pairs)."""
        del dataset, split, cache, progress

    @abstractmethod
    def inputs(self, dataset: Dataset, cache: Path, tokens: bool = False, progress: Progress = silent) -> Inputs:
        """Build or load what the towers read.

        Args:
            dataset: the dataset, whole.
            cache: folder of feature caches, keyed by content hash.
            tokens: whether the method needs token features.
            progress: called while features are computed.
        """

    @abstractmethod
    def encode_image(self, x: Fields) -> Features:
        """Features of rows of ``Inputs.image``."""

    @abstractmethod
    def encode_text(self, x: Fields) -> Features:
        """Features of rows of ``Inputs.text``."""

    def image_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Hidden states ``[B, L, W]`` and kinds ``[B, L]`` of rows of ``Inputs.image`` (see ``Features``).

        ``encode_image`` is ``project_image`` of them. Needs the capability ``hidden``.
        """
        raise TypeError(f"backbone '{self.card.name}' has no hidden states")

    def text_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Hidden states and kinds of rows of ``Inputs.text``; see ``image_states``."""
        raise TypeError(f"backbone '{self.card.name}' has no hidden states")

    def project_image(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Features of hidden states ``[B, L, W]`` with their kinds, as ``encode_image`` makes them of its own.

        Needs the capability ``hidden``.

        Args:
            hidden: of ``image_states``, changed or not.
            kind: their kinds.
            tokens: whether token features are wanted; without them a backbone may do less.
        """
        raise TypeError(f"backbone '{self.card.name}' has no hidden states")

    def project_text(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Features of hidden states of texts; see ``project_image``."""
        raise TypeError(f"backbone '{self.card.name}' has no hidden states")

    def width(self, modality: str) -> int:
        """W of the hidden states of ``"image"`` or ``"text"``. Needs the capability ``hidden``."""
        raise TypeError(f"backbone '{self.card.name}' has no hidden states")

    def pretrained(self) -> Sequence[nn.Module]:
        """Trainable modules that start from pretrained weights: what a method with adapters may freeze."""
        return ()

    def blocks(self, modality: str) -> Sequence[nn.Module]:
        """Transformer blocks of the tower of ``"image"`` or ``"text"``, first to last.

        Each maps ``[B, L, W]`` to the same shape. Needs the capability ``blocks``.
        """
        raise TypeError(f"backbone '{self.card.name}' has no transformer blocks to reach")

    def layers(self, modality: str) -> Sequence[nn.Module]:
        """Parts of a tower, first to last, that can be frozen or checkpointed one by one; its ``blocks`` if it has any.

        Unlike ``blocks`` they may change the shape. A tower without any gives none.
        """
        return self.blocks(modality) if "blocks" in self.capabilities else ()

    def embeddings(self, modality: str) -> Sequence[nn.Parameter]:
        """Parameters of a tower before its first layer, where it has ``layers``."""
        raise TypeError(f"backbone '{self.card.name}' does not tell its embeddings")

    def text_kind(self, x: Fields) -> Tensor:
        """Kinds ``[B, L]`` of the tokens inside the text tower's blocks. Needs the capability ``blocks``."""
        raise TypeError(f"backbone '{self.card.name}' has no transformer blocks to reach")

    def facts(self) -> dict[str, Any]:
        """What a result records of it, for example a weights hash."""
        return {}
