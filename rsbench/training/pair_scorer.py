"""Scores of drawn (image, caption) pairs, never of all images against all captions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from rsbench.backbones.base import Features, Inputs
from rsbench.data.dataset import Dataset, Ints
from rsbench.methods.base import Method
from rsbench.progress import Progress, silent
from rsbench.training.device import autocast, choose_device
from rsbench.training.scoring import ENCODE_BATCH

DOT_BLOCK, ENCODED_PAIRS, SQUARE = 16_384, 256, 16
"""Pairs at once: of dot products; encoded for a method's own similarity; in one square of its scores."""

Floats = npt.NDArray[np.float32]


class PairScorer:
    """Scores pairs of a training part as a method does at test time.

    Cosine methods: pooled vectors are computed once, and a pair costs one dot product. Others: features are computed
    block by block, so that the tokens of a whole dataset never lie in memory.

    Args:
        method: over a fitted backbone; put into eval mode on the first GPU, else the CPU.
        dataset: the dataset.
        split: the scheme whose training part is scored.
        inputs: of the method's backbone for this dataset.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        progress: called while pairs are encoded and scored.
    """

    def __init__(
        self,
        method: Method,
        dataset: Dataset,
        split: str,
        inputs: Inputs,
        precision: str = "fp32",
        progress: Progress = silent,
    ) -> None:
        self.device, self.precision, self.progress = choose_device("auto"), precision, progress
        self.method, self.inputs, self.text_of = method.to(self.device).eval(), inputs, dataset.caption_text
        self.cosine = type(method).similarity is Method.similarity
        if self.cosine:
            pairs = dataset.pairs(split, "train")
            self._image_rows = self._pooled("encoded images", self._images, pairs[:, 0], len(dataset.filenames))
            self._text_rows = self._pooled("encoded texts", self._texts, self.text_of[pairs[:, 1]], len(dataset.texts))

    @torch.no_grad()
    def __call__(self, images: Ints, captions: Ints) -> Floats:
        """Scores float32 ``[K]`` of images ``[K]`` against captions ``[K]`` (ids in the dataset)."""
        texts, found = self.text_of[captions], np.empty(len(images), dtype=np.float32)
        score, step = (self._dot, DOT_BLOCK) if self.cosine else (self._own_similarity, ENCODED_PAIRS)
        for start in range(0, len(images), step):
            block = slice(start, start + step)
            found[block] = score(images[block], texts[block])
            self.progress("scored pairs", min(start + step, len(images)), len(images))
        return found

    def _images(self, ids: Ints) -> Features:
        return self.method.encode_images(self.inputs.images(torch.from_numpy(ids), self.device))

    def _texts(self, ids: Ints) -> Features:
        return self.method.encode_texts(self.inputs.texts(torch.from_numpy(ids), self.device))

    @torch.no_grad()
    def _pooled(self, what: str, encode: Callable[[Ints], Features], ids: Ints, size: int) -> tuple[Ints, Floats]:
        """The row of each id, ``[size]``, and normalised pooled vectors ``[n, D]`` of the n distinct ids."""
        ids, blocks = np.unique(ids), []
        for start in range(0, len(ids), ENCODE_BATCH):
            with autocast(self.device, self.precision):
                pooled = encode(ids[start : start + ENCODE_BATCH]).pooled
            blocks.append(functional.normalize(pooled.float(), dim=-1).cpu().numpy())
            self.progress(what, min(start + ENCODE_BATCH, len(ids)), len(ids))
        rows = np.full(size, -1, dtype=np.int64)
        rows[ids] = np.arange(len(ids))
        return rows, np.concatenate(blocks)

    def _dot(self, images: Ints, texts: Ints) -> Floats:
        (image_row, image), (text_row, text) = self._image_rows, self._text_rows
        found: Floats = np.einsum("kd,kd->k", image[image_row[images]], text[text_row[texts]])
        return found

    def _own_similarity(self, images: Ints, texts: Ints) -> Floats:
        """The diagonals of small squares of ``method.similarity``."""
        with autocast(self.device, self.precision):
            image, text = self._images(images), self._texts(texts)
            squares = [slice(a, a + SQUARE) for a in range(0, len(images), SQUARE)]
            found = [self.method.similarity(image[s], text[s]).diagonal().float() for s in squares]
        scores: Floats = torch.cat(found).cpu().numpy()
        return scores
