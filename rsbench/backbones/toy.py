"""``toy``: a frozen conv net that ships with the package, and word vectors of the training captions."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load
from torch import Tensor
from torch.nn import functional

from rsbench.backbones.base import CONTENT, PAD
from rsbench.backbones.cards.own import TOY
from rsbench.backbones.heads import CachedHeads, RawFeatures
from rsbench.backbones.pixels import HALF, as_tensor, prepare
from rsbench.backbones.toy_net import SIDE, WIDTH, ToyNet
from rsbench.backbones.word_vectors import fit_word_vectors
from rsbench.backbones.words import word_hash, words_of
from rsbench.data.dataset import Dataset
from rsbench.errors import UsageError
from rsbench.progress import Progress, silent

PIXELS, TEXT_WIDTH, WORDS, VOCABULARY = 48, 64, 32, 512
"""Side at which images are read, width of word vectors, words of a caption, most words known."""

_BATCH = 256


class Toy(CachedHeads):
    """Image: 6 x 6 map of the conv net, averaged to ``grid x grid`` tokens; pooled = its mean.

    Text: word vectors, pooled = their tf-idf mean. Words the training captions do not have are
    skipped; a text of unknown words alone is all zeros.
    """

    card = TOY
    words: Tensor
    vectors: Tensor
    idf: Tensor

    def __init__(
        self, tuning: str, weights: str, seed: int, *, hidden: int, dim: int, dropout: float, pca: int, grid: int = SIDE
    ) -> None:
        if not 1 <= grid <= SIDE:
            raise UsageError(f"backbone.grid = {grid} is not allowed; the toy net gives a map of 1 to {SIDE} a side")
        super().__init__(
            tuning, weights, seed, image_width=WIDTH, text_width=TEXT_WIDTH,
            hidden=hidden, dim=dim, dropout=dropout, pca=pca,
        )  # fmt: skip
        self.grid = grid
        self.register_buffer("words", torch.full((VOCABULARY,), -1, dtype=torch.int64))
        self.register_buffer("vectors", torch.zeros(VOCABULARY, TEXT_WIDTH))
        self.register_buffer("idf", torch.zeros(VOCABULARY))

    def fit(self, dataset: Dataset, split: str, cache: Path, progress: Progress = silent) -> None:
        """Fit word vectors on the training images' own captions, then the statistics."""
        own = np.isin(dataset.caption_image, dataset.part(split, "train"))
        found = fit_word_vectors([dataset.captions[i] for i in np.flatnonzero(own)], TEXT_WIDTH, VOCABULARY)
        n = len(found.words)
        self.words.fill_(-1)[:n] = torch.tensor([word_hash(w) for w in found.words])
        # rounded, so that the last bits of another machine's SVD make no other features
        self.vectors.zero_()[:n] = torch.from_numpy(found.vectors.round(4)).float()
        self.idf.zero_()[:n] = torch.from_numpy(found.idf.round(4)).float()
        super().fit(dataset, split, cache, progress)

    def tower_key(self, modality: str) -> Mapping[str, Any]:
        """Hash of the conv net's weights, or of the fitted word vectors."""
        if modality == "text":
            return {"weights": self._words_hash()}
        return {"weights": _weights_hash(), **({} if self.grid == SIDE else {"grid": self.grid})}

    def image_features(self, pixels: npt.NDArray[np.uint8]) -> RawFeatures:
        """Pooled ``[n, 128]``, tokens ``[n, grid * grid, 128]``."""
        blocks = torch.split(as_tensor(pixels), _BATCH)
        maps = torch.cat([_net()(prepare(b, PIXELS, *HALF)) for b in blocks])
        regions = maps if self.grid == SIDE else functional.adaptive_avg_pool2d(maps, self.grid)
        tokens = regions.flatten(2).transpose(1, 2)
        pooled = maps.flatten(2).transpose(1, 2).mean(dim=1)
        return RawFeatures(pooled, tokens, torch.zeros(tokens.shape[:2], dtype=torch.int8))

    def text_features(self, texts: Sequence[str]) -> RawFeatures:
        """Pooled ``[n, 64]``, tokens ``[n, 32, 64]``."""
        known = {h: i for i, h in enumerate(self.words.tolist()) if h >= 0}
        index = torch.full((len(texts), WORDS), -1, dtype=torch.int64)
        for row, text in enumerate(texts):
            found = [known[h] for w in words_of(text) if (h := word_hash(w)) in known][:WORDS]
            index[row, : len(found)] = torch.tensor(found, dtype=torch.int64)
        shown = index >= 0
        tokens = self.vectors[index.clamp(min=0)] * shown[..., None]
        weight = self.idf[index.clamp(min=0)] * shown
        pooled = (tokens * weight[..., None]).sum(dim=1) / weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
        return RawFeatures(pooled, tokens, torch.where(shown, CONTENT, PAD).to(torch.int8))

    def _words_hash(self) -> str:
        raw = b"".join(b.cpu().numpy().tobytes() for b in (self.words, self.vectors, self.idf))
        return hashlib.sha256(raw).hexdigest()


def _weights_bytes() -> bytes:
    return files("rsbench.backbones").joinpath("toy_net.safetensors").read_bytes()


@functools.cache
def _weights_hash() -> str:
    return hashlib.sha256(_weights_bytes()).hexdigest()


@functools.cache
def _net() -> ToyNet:
    net = ToyNet()
    net.load_state_dict({k: v.float() for k, v in load(_weights_bytes()).items()})
    return net.eval().requires_grad_(False)
