"""``tiny``: a small dual encoder in plain torch, trained end to end; for tests and smoke runs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from rsbench.backbones.base import PAD, Backbone, Features, Fields, Inputs
from rsbench.backbones.cards.own import TINY
from rsbench.backbones.pixels import HALF, as_tensor, prepare
from rsbench.backbones.seeded import seeded_init
from rsbench.backbones.vocabulary import FIRST, PADDING, id_kinds, learn, no_words, training_words, word_ids
from rsbench.data.dataset import Dataset
from rsbench.progress import Progress, silent


class Tiny(Backbone):
    """Three strided convolutions give a map of regions, a GRU gives states of words; pooled = mean of the tokens.

    The vocabulary holds the commonest words of the training captions as 48-bit hashes in a buffer, so that a
    checkpoint carries it; other words share one entry.

    Args:
        tuning: ``full``.
        weights: ``random``.
        seed: of the initialisation.
        size: side in pixels at which images are read, a multiple of 8.
        width: channels of the first convolution.
        dim: of the joint space.
        words: of a caption that are read, at most.
        vocabulary: number of words known.
    """

    card = TINY
    vocabulary: Tensor

    def __init__(
        self, tuning: str, weights: str, seed: int, *, size: int, width: int, dim: int, words: int, vocabulary: int
    ) -> None:
        super().__init__()
        self.tuning, self.weights, self.dim, self.size, self.words = tuning, weights, dim, size, words
        self.register_buffer("vocabulary", no_words(vocabulary))
        with seeded_init(seed):
            self.image_tower = nn.Sequential(_stage(3, width), _stage(width, 2 * width), _stage(2 * width, 2 * width))
            self.embedding = nn.Embedding(vocabulary + FIRST, 2 * width, padding_idx=PADDING)
            self.text_tower = nn.GRU(2 * width, 2 * width, batch_first=True)
            self.image_head, self.text_head = nn.Linear(2 * width, dim), nn.Linear(2 * width, dim)

    def fit(self, dataset: Dataset, split: str, cache: Path, progress: Progress = silent) -> None:
        """Learn the vocabulary from the captions of the training images."""
        del cache, progress
        learn(self.vocabulary, training_words(dataset, split))

    def inputs(self, dataset: Dataset, cache: Path, tokens: bool = False, progress: Progress = silent) -> Inputs:
        """Pixels of the store, and word ids of every distinct text."""
        del cache, tokens, progress
        return Inputs(
            {"pixels": as_tensor(dataset.images)}, {"ids": word_ids(self.vocabulary, dataset.texts, self.words)}
        )

    def encode_image(self, x: Fields) -> Features:
        """Features of uint8 ``pixels [B, H, W, 3]``; ``(size / 8)`` squared tokens."""
        return self.project_image(*self.image_states(x))

    def encode_text(self, x: Fields) -> Features:
        """Features of word ids ``ids [B, words]``."""
        return self.project_text(*self.text_states(x))

    def image_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Regions of the last map."""
        hidden = self.image_tower(prepare(x["pixels"], self.size, *HALF, mode="bilinear")).flatten(2).transpose(1, 2)
        return hidden, torch.zeros(hidden.shape[:2], dtype=torch.int8, device=hidden.device)

    def text_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """States of the words."""
        hidden, _ = self.text_tower(self.embedding(x["ids"]))
        return hidden, id_kinds(self.vocabulary, x["ids"])

    def project_image(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Features of regions; pooled = their mean."""
        found = self.image_head(hidden)
        return Features(found.mean(dim=1), found, kind, hidden)

    def project_text(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Features of words; pooled = mean of those that are no padding."""
        found = self.text_head(hidden)
        weight = (kind != PAD)[..., None].to(found.dtype)
        return Features((found * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1), found, kind, hidden)

    def width(self, modality: str) -> int:
        """Channels of the last map, or of the word states."""
        return (self.image_head if modality == "image" else self.text_head).in_features


def _stage(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=2, padding=1), nn.GroupNorm(4, outside), nn.ReLU(inplace=True)
    )
