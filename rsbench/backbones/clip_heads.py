"""Heads on the cached features of a frozen open_clip model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rsbench.backbones.base import PAD, Features
from rsbench.backbones.card import BackboneCard
from rsbench.backbones.heads import CachedHeads, RawFeatures
from rsbench.backbones.openclip import OpenClip
from rsbench.backbones.openclip_weights import find_source, tokenise
from rsbench.backbones.pixels import as_tensor
from rsbench.progress import silent

_BATCH = 64

_loaded: dict[tuple[str, ...], OpenClip] = {}
"""The frozen model used last, kept outside every module tree, so that checkpoints hold heads only."""


class ClipHeads(CachedHeads):
    """Frozen towers in their joint space, features cached once, heads trained; no blocks and no augmentation.

    Pooled vectors are the model's own. Image tokens are its projected patches; text tokens are the start, at most
    ``words`` pieces, and the end where it fits. The class token is left out: it is the pooled vector, which leads
    anyway. Where the card tells the sizes, the towers are loaded only for features that are not cached yet.

    Args:
        weights: of the towers; random ones are those of seed 0.
        seed: of the heads.
        card: of the model.
        model: open_clip's name.
        tag: open_clip's pretrained tag for ``hub``.
        hidden: width inside the heads.
        dim: of the joint space of the heads.
        dropout: inside the heads.
        words: word pieces kept.
        pca: reduce inputs to this many dimensions, 0 for none.
    """

    def __init__(
        self,
        weights: str,
        seed: int,
        *,
        card: BackboneCard,
        model: str,
        tag: str,
        hidden: int,
        dim: int,
        dropout: float,
        words: int,
        pca: int,
    ) -> None:
        tower_of = card, model, tag, weights
        width = getattr(card, "joint_dim", 0) or _frozen(*tower_of).dim
        super().__init__(
            "heads",
            weights,
            seed,
            image_width=width,
            text_width=width,
            hidden=hidden,
            dim=dim,
            dropout=dropout,
            pca=pca,
        )
        self.card = card  # type: ignore[misc]  # one class serves every model of open_clip
        self.tower_of, self.words = tower_of, words

    @property
    def capabilities(self) -> frozenset[str]:
        """The card's; where it leaves the model open, what the towers have of them."""
        given = super().capabilities
        return given if hasattr(self.card, "joint_dim") else given & _frozen(*self.tower_of).capabilities

    def tower_key(self, modality: str) -> Mapping[str, Any]:
        """Model, hash of its weights, and for texts the number of words."""
        _, model, *_ = self.tower_of
        return {"model": model, "sha256": self._sha256, **({"words": self.words} if modality == "text" else {})}

    def image_features(self, pixels: npt.NDArray[np.uint8]) -> RawFeatures:
        """Pooled ``[n, D]``, tokens ``[n, L, D]``."""
        device = self.image_scaling.mean.device
        tower, blocks = _frozen(*self.tower_of).to(device), torch.split(as_tensor(pixels), _BATCH)
        return _joined([_raw(tower.encode_image({"pixels": b.to(device)}), slice(1, None)) for b in blocks])

    def text_features(self, texts: Sequence[str]) -> RawFeatures:
        """Pooled ``[n, D]``, tokens ``[n, 1 + words, D]``."""
        device = self.text_scaling.mean.device
        tower = _frozen(*self.tower_of).to(device)
        blocks = torch.split(tokenise(tower.model, texts, silent), _BATCH)
        return _joined([_raw(tower.encode_text({"ids": b.to(device)}), slice(1 + self.words)) for b in blocks])

    @cached_property
    def _sha256(self) -> str | None:
        """Of the weights' file; None for random weights."""
        found: str | None = find_source(*self.tower_of).facts()["sha256"]
        return found


def _raw(found: Features, kept: slice) -> RawFeatures:
    """Pooled vectors and some tokens, zero at padding."""
    if found.tokens is None or found.kind is None:
        return RawFeatures(found.pooled.cpu())
    tokens, kind = found.tokens[:, kept], found.kind[:, kept]
    return RawFeatures(found.pooled.cpu(), tokens.masked_fill((kind == PAD)[..., None], 0).cpu(), kind.cpu())


def _joined(parts: Sequence[RawFeatures]) -> RawFeatures:
    def join(tensors: Sequence[Tensor | None]) -> Tensor | None:
        there = [t for t in tensors if t is not None]
        return torch.cat(there) if there else None

    return RawFeatures(
        torch.cat([p.pooled for p in parts]), join([p.tokens for p in parts]), join([p.kind for p in parts])
    )


def _frozen(card: BackboneCard, model: str, tag: str, weights: str) -> OpenClip:
    key = card.name, model, tag, weights
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = OpenClip("full", weights, 0, card=card, model=model, tag=tag).eval().requires_grad_(False)
    return _loaded[key]
