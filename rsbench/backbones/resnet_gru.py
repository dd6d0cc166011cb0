"""``resnet-gru``: ResNet-18 on pixels and a GRU over words, trained whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rsbench.backbones import hub, timm_tower
from rsbench.backbones.base import Backbone, Features, Fields, Inputs
from rsbench.backbones.cache import file_hash
from rsbench.backbones.cards.towers import RESNET, RESNET_FILE, RESNET_GRU
from rsbench.backbones.gru_text import GruText, check_pool, pooled_words
from rsbench.backbones.pixels import IMAGENET, as_tensor, prepare
from rsbench.backbones.seeded import seeded_init
from rsbench.backbones.vocabulary import id_kinds, training_words, trimmed, word_ids
from rsbench.data.dataset import Dataset
from rsbench.errors import UsageError
from rsbench.progress import Progress, silent


@dataclass(frozen=True)
class Architecture:
    """Size of the image tower: the side at which images are read, and further arguments of timm's ResNet."""

    size: int = 256
    image: Mapping[str, Any] = field(default_factory=dict)


class ResNetGru(Backbone):
    """The last map gives a token for each of its places, the GRU one for each word; one linear layer each.

    Image: pooled = mean of the tokens, 64 at 256 px. Text: word vectors, a GRU in both directions, averaged. Batch
    normalisation keeps its stored statistics, so that features never depend on the rest of a batch. The skip-thoughts
    GRU of xiaoyuan1996/AMFMN is not reproduced.

    Args:
        tuning: ``full``.
        weights: ``hub``, ``random``, or a local checkpoint of timm's or torchvision's ResNet-18.
        seed: of all but pretrained weights.
        dim: of the joint space.
        hidden: W of the GRU's states.
        width: of the word vectors.
        words: of a caption that are read, at most.
        vocabulary: number of words known: the commonest of the training captions.
        dropout: on the word vectors.
        pool: of words, ``mean`` or ``last``.
        glove: file of word vectors to start from, of ``width`` numbers each; empty for random ones.

    Raises:
        UnknownNameError: no such pooling.
        UsageError: a size that is none.
        WeightsError: weights missing, damaged or of another shape.
    """

    card = RESNET_GRU
    architecture: ClassVar[Architecture] = Architecture()

    def __init__(
        self,
        tuning: str,
        weights: str,
        seed: int,
        *,
        dim: int,
        hidden: int,
        width: int,
        words: int,
        vocabulary: int,
        dropout: float,
        pool: str,
        glove: str,
    ) -> None:
        super().__init__()
        if words < 1:
            raise UsageError(f"backbone.words={words} must be 1 or more")
        self.tuning, self.weights, self.dim, self.words, self.glove = tuning, weights, dim, words, glove
        self.pool, self.file = check_pool(pool), _file(weights)
        with seeded_init(seed):
            self.image_tower = timm_tower.image_tower(RESNET, self.file, self.architecture.image)
            self.text_tower = GruText(vocabulary, width, hidden, dropout, fixed_start=bool(glove))
            self.image_head = nn.Linear(int(self.image_tower.num_features), dim)  # type: ignore[arg-type]
            self.text_head = nn.Linear(hidden, dim)

    def train(self, mode: bool = True) -> ResNetGru:
        """Switch dropout; batch statistics stay frozen."""
        super().train(mode)
        timm_tower.freeze_statistics(self.image_tower)
        return self

    def fit(self, dataset: Dataset, split: str, cache: Path, progress: Progress = silent) -> None:
        """Learn the vocabulary from the captions of the training images, and read their word vectors."""
        del cache
        self.text_tower.learn(training_words(dataset, split), self.glove, progress)

    def inputs(self, dataset: Dataset, cache: Path, tokens: bool = False, progress: Progress = silent) -> Inputs:
        """Pixels of the store, and word ids of every distinct text, cut to the longest of them."""
        del cache, tokens, progress
        ids = trimmed(word_ids(self.text_tower.words, dataset.texts, self.words))
        return Inputs({"pixels": as_tensor(dataset.images)}, {"ids": ids})

    def encode_image(self, x: Fields) -> Features:
        """Features of uint8 ``pixels [B, H, W, 3]``."""
        return self.project_image(*self.image_states(x))

    def encode_text(self, x: Fields) -> Features:
        """Features of word ids ``ids [B, L]``."""
        return self.project_text(*self.text_states(x))

    def image_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """Places of the last map, row by row."""
        pixels = prepare(x["pixels"], self.architecture.size, *IMAGENET)
        hidden = timm_tower.map_tokens(self.image_tower, pixels, channels_last=False)
        return hidden, torch.zeros(hidden.shape[:2], dtype=torch.int8, device=hidden.device)

    def text_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """States of the words."""
        return self.text_tower(x["ids"]), id_kinds(self.text_tower.words, x["ids"])

    def project_image(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Projection of the map; pooled = mean."""
        if not tokens:
            return Features(self.image_head(hidden.mean(dim=1)))
        found = self.image_head(hidden)
        return Features(found.mean(dim=1), found, kind, hidden)

    def project_text(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Projection of the states."""
        if not tokens:
            return Features(self.text_head(pooled_words(hidden, kind, self.pool)))
        found = self.text_head(hidden)
        return Features(pooled_words(found, kind, self.pool), found, kind, hidden)

    def layers(self, modality: str) -> Sequence[nn.Module]:
        """Residual blocks of the ResNet; none of the GRU, which starts from nothing."""
        tower: Any = self.image_tower
        stages = (tower.layer1, tower.layer2, tower.layer3, tower.layer4) if modality == "image" else ()
        return [block for stage in stages for block in stage]

    def embeddings(self, modality: str) -> Sequence[nn.Parameter]:
        """Of the first convolution."""
        tower: Any = self.image_tower
        return [p for m in (tower.conv1, tower.bn1) for p in m.parameters()] if modality == "image" else []

    def width(self, modality: str) -> int:
        """Channels of the last map, or of the word states."""
        return (self.image_head if modality == "image" else self.text_head).in_features

    def pretrained(self) -> Sequence[nn.Module]:
        """The image tower, unless its weights are random."""
        return () if self.file is None else (self.image_tower,)

    def facts(self) -> dict[str, Any]:
        """Hashes of what the image tower and the word vectors start from."""
        return {"image_sha256": None if self.file is None else file_hash(self.file), **self.text_tower.facts()}


def _file(weights: str) -> Path | None:
    if weights == "random":
        return None
    return hub.fetch(RESNET_FILE, "resnet-gru") if weights == "hub" else Path(weights)
