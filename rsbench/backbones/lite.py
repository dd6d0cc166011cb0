"""``lite``: EfficientNet-Lite0 and MiniLM, with trained heads on cached features, or trained whole."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rsbench.backbones import lite_towers as towers
from rsbench.backbones.base import PAD, Backbone
from rsbench.backbones.cards.own import LITE
from rsbench.backbones.heads import CachedHeads, RawFeatures
from rsbench.backbones.pixels import HALF, as_tensor, prepare
from rsbench.errors import UsageError

_BATCH = 64


def build(tuning: str, weights: str, seed: int, **params: Any) -> Backbone:
    """The backbone for a tuning.

    Raises:
        UsageError: a parameter that its tuning cannot use.
    """
    idle = "flip" if tuning == "heads" else "pca"
    if params.pop(idle):
        other = "full" if tuning == "heads" else "heads"
        raise UsageError(f"backbone.{idle} works with tuning '{other}' of lite, not with '{tuning}'; leave it out")
    if tuning == "heads":
        return LiteHeads(tuning, weights, seed, **params)
    from rsbench.backbones.lite_full import LiteFull

    return LiteFull(tuning, weights, seed, **params)


class LiteHeads(CachedHeads):
    """Frozen towers, features cached once, heads trained.

    Image: last feature map at ``size`` pixels, its mean and a ``grid x grid`` of regional means. Text: mean and
    states of word pieces; tokens are the start, at most ``words`` pieces, and the end where it fits.
    """

    card = LITE

    def __init__(
        self,
        tuning: str,
        weights: str,
        seed: int,
        *,
        hidden: int,
        dim: int,
        dropout: float,
        size: int,
        grid: int,
        words: int,
        pca: int,
    ) -> None:
        super().__init__(
            tuning,
            weights,
            seed,
            image_width=towers.IMAGE_WIDTH,
            text_width=towers.TEXT_WIDTH,
            hidden=hidden,
            dim=dim,
            dropout=dropout,
            pca=pca,
        )
        self.size, self.grid, self.words = size, grid, words

    def tower_key(self, modality: str) -> Mapping[str, Any]:
        """Weights hash, and size and grid or number of words."""
        own = {"size": self.size, "grid": self.grid} if modality == "image" else {"words": self.words}
        return {"weights": towers.weights_hash(modality), **own}

    def image_features(self, pixels: npt.NDArray[np.uint8]) -> RawFeatures:
        """Pooled ``[n, 1280]``, tokens ``[n, grid * grid, 1280]``."""
        device, tower = self.image_scaling.mean.device, _frozen("image")
        tower.to(device)
        parts = [
            towers.grid_features(tower, prepare(block.to(device), self.size, *HALF), self.grid)
            for block in torch.split(as_tensor(pixels), _BATCH)
        ]
        tokens = torch.cat([t for _, t in parts])
        return RawFeatures(torch.cat([p for p, _ in parts]), tokens, torch.zeros(tokens.shape[:2], dtype=torch.int8))

    def text_features(self, texts: Sequence[str]) -> RawFeatures:
        """Pooled ``[n, 384]``, tokens ``[n, 1 + words, 384]``; texts of like length go through the tower together."""
        device, tower = self.text_scaling.mean.device, _frozen("text")
        tower.to(device)
        tokens, length = towers.tokenise(texts), 1 + self.words
        pooled = torch.zeros(len(texts), towers.TEXT_WIDTH)
        states = torch.zeros(len(texts), length, towers.TEXT_WIDTH)
        kind = torch.full((len(texts), length), PAD, dtype=torch.int8)
        by_length = (tokens.kind != PAD).sum(dim=1).argsort(stable=True)
        for rows in torch.split(by_length, _BATCH):
            batch = towers.Tokens(tokens.ids[rows], tokens.kind[rows]).trimmed()
            moved = towers.Tokens(batch.ids.to(device), batch.kind.to(device))
            mean, hidden = (t.cpu() for t in towers.sentence_features(tower, moved))
            _place(rows, mean, hidden, batch.kind, (pooled, states, kind))
        return RawFeatures(pooled, states, kind)


def _place(rows: Tensor, mean: Tensor, hidden: Tensor, kind: Tensor, into: tuple[Tensor, Tensor, Tensor]) -> None:
    """Write a batch into the rows it came from, cutting long texts."""
    pooled, states, kinds = into
    width = min(hidden.shape[1], states.shape[1])
    pooled[rows] = mean
    states[rows, :width], kinds[rows, :width] = hidden[:, :width], kind[:, :width]


@functools.cache
def _frozen(modality: str) -> nn.Module:
    """A tower kept outside every module tree, so that checkpoints hold heads only."""
    tower = towers.image_tower() if modality == "image" else towers.text_tower()
    return tower.eval().requires_grad_(False)
