"""``lite`` with both towers trainable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.backbones import lite_towers as towers
from rsbench.backbones.base import Backbone, Features, Fields, Inputs
from rsbench.backbones.cards.own import LITE
from rsbench.backbones.heads import led, projected, projection
from rsbench.backbones.pixels import HALF, as_tensor, flip_at_random, prepare
from rsbench.backbones.seeded import seeded_init
from rsbench.data.dataset import Dataset
from rsbench.progress import Progress, silent


class LiteFull(Backbone):
    """Both towers and a head each, trained on pixels and word pieces.

    Batch normalisation keeps its ImageNet statistics, so that features never depend on the rest of a batch.
    Tokens are as in the tuning ``heads``: the pooled vector leads, then come ``grid x grid`` regional means, or the
    start with at most ``words`` pieces.
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
        return self.project_image(*self.image_states(x))

    def encode_text(self, x: Fields) -> Features:
        """Features of word pieces ``ids`` and ``kind [B, L]``."""
        return self.project_text(*self.text_states(x))

    def image_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Mean of the last map, then its regional means."""
        pixels = prepare(x["pixels"], self.size, *HALF)
        if self.flip and self.training:
            pixels = flip_at_random(pixels)
        pooled, hidden = towers.grid_features(self.image_tower, pixels, self.grid)
        return led(pooled, hidden, torch.zeros(hidden.shape[:2], dtype=torch.int8, device=hidden.device))

    def text_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Mean of the last states, then the states of the first pieces."""
        pieces = towers.Tokens(x["ids"], x["kind"])
        pooled, hidden = towers.sentence_features(self.text_tower, pieces)
        length = 1 + self.words
        return led(pooled, hidden[:, :length], pieces.kind[:, :length])

    def project_image(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Features of tower outputs, the pooled one first."""
        return projected(self.image_head, hidden, kind, tokens)

    def project_text(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Features of tower outputs, the pooled one first."""
        return projected(self.text_head, hidden, kind, tokens)

    def width(self, modality: str) -> int:
        """Channels of the tower."""
        return towers.IMAGE_WIDTH if modality == "image" else towers.TEXT_WIDTH

    def pretrained(self) -> Sequence[nn.Module]:
        """Both towers."""
        return self.image_tower, self.text_tower

    def layers(self, modality: str) -> Sequence[nn.Module]:
        """Inverted residual blocks of EfficientNet; layers of MiniLM."""
        tower: Any = self.image_tower if modality == "image" else self.text_tower
        if modality == "text":
            return list(tower.encoder.layer)
        return [block for stage in tower.blocks for block in stage]

    def embeddings(self, modality: str) -> Sequence[nn.Parameter]:
        """Of the first convolution; of word pieces and places."""
        image, text = self.image_tower, self.text_tower
        parts: Any = (image.conv_stem, image.bn1) if modality == "image" else (text.embeddings,)
        return [p for m in parts for p in m.parameters()]

    def facts(self) -> dict[str, Any]:
        """Hashes of the weights both towers start from."""
        return {f"{m}_weights": towers.weights_hash(m) for m in ("image", "text")}


def _head(width: int, hidden: int, dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), projection(width, hidden, dim, dropout))
