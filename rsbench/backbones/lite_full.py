"""``lite`` with both towers trainable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.backbones import lite_towers as towers
from rsbench.backbones.base import Backbone, Features, Fields, Inputs
from rsbench.backbones.cards import LITE
from rsbench.backbones.heads import projection
from rsbench.backbones.pixels import HALF, as_tensor, flip_at_random, prepare
from rsbench.backbones.seeded import seeded_init
from rsbench.data.dataset import Dataset
from rsbench.progress import Progress, silent


class LiteFull(Backbone):
    """Both towers and a head each, trained on pixels and word pieces.

    Batch normalisation keeps its ImageNet statistics, so that features never depend on the rest of a batch.
    Tokens are as in the tuning ``heads``: ``grid x grid`` regional means, and the start with at most ``words`` pieces.
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
        flip: bool,
    ) -> None:
        super().__init__()
        self.tuning, self.weights, self.dim = tuning, weights, dim
        self.size, self.grid, self.words, self.flip = size, grid, words, flip
        self.image_tower, self.text_tower = towers.image_tower(), towers.text_tower()
        with seeded_init(seed):
            self.image_head = _head(towers.IMAGE_WIDTH, hidden, dim, dropout)
            self.text_head = _head(towers.TEXT_WIDTH, hidden, dim, dropout)
        self.image_tower.classifier = nn.Identity()  # ImageNet's classes are not used

    def train(self, mode: bool = True) -> LiteFull:
        """Switch dropout; batch statistics stay frozen."""
        super().train(mode)
        for module in self.image_tower.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def inputs(self, dataset: Dataset, cache: Path, tokens: bool = False, progress: Progress = silent) -> Inputs:
        """Pixels of the store, and word pieces of every distinct text."""
        del cache, tokens, progress
        pieces = towers.tokenise(dataset.texts)
        return Inputs({"pixels": as_tensor(dataset.images)}, {"ids": pieces.ids, "kind": pieces.kind})

    def encode_image(self, x: Fields) -> Features:
        """Features of uint8 ``pixels [B, H, W, 3]``; mirrored at random in training where ``flip`` is set."""
        pixels = prepare(x["pixels"], self.size, *HALF)
        if self.flip and self.training:
            pixels = flip_at_random(pixels)
        pooled, hidden = towers.grid_features(self.image_tower, pixels, self.grid)
        kind = torch.zeros(hidden.shape[:2], dtype=torch.int8, device=hidden.device)
        return self._project(self.image_head, pooled, hidden, kind)

    def encode_text(self, x: Fields) -> Features:
        """Features of word pieces ``ids`` and ``kind [B, L]``."""
        pieces = towers.Tokens(x["ids"], x["kind"])
        pooled, hidden = towers.sentence_features(self.text_tower, pieces)
        length = 1 + self.words
        return self._project(self.text_head, pooled, hidden[:, :length], pieces.kind[:, :length])

    def facts(self) -> dict[str, Any]:
        """Hashes of the weights both towers start from."""
        return {f"{m}_weights": towers.weights_hash(m) for m in ("image", "text")}

    @staticmethod
    def _project(head: nn.Module, pooled: Tensor, hidden: Tensor, kind: Tensor) -> Features:
        return Features(head(pooled), head(hidden), kind, hidden)


def _head(width: int, hidden: int, dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), projection(width, hidden, dim, dropout))
