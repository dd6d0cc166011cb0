"""Encode one part of a dataset and measure retrieval on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rsbench.backbones.base import Features, Inputs, concatenate
from rsbench.data.dataset import Dataset
from rsbench.evaluation.figures import Metrics
from rsbench.evaluation.ranks import Ranks, ScoreBlock, ranks_of_blocks
from rsbench.evaluation.retrieval import fold_metrics, metrics
from rsbench.methods.base import Method
from rsbench.progress import Progress, silent
from rsbench.training.device import autocast

ENCODE_BATCH = 256
"""Images or texts encoded at once."""


def encode_all(encode: Callable[[Tensor], Features], ids: Tensor) -> Features:
    """Encode rows in batches and join them."""
    return concatenate([encode(ids[a : a + ENCODE_BATCH]) for a in range(0, len(ids), ENCODE_BATCH)])


@dataclass(frozen=True)
class PartScores:
    """One part of a dataset, encoded: every image against every caption.

    Attributes:
        block: scores ``[stop - start, M]`` of images start..stop.
        n_images: N of the part.
        caption_image: int64 ``[M]``, position of each caption's image within the part.
    """

    block: ScoreBlock
    n_images: int
    caption_image: Tensor


@torch.no_grad()
def score_part(
    method: Method,
    inputs: Inputs,
    dataset: Dataset,
    split: str,
    part: str,
    device: torch.device,
    precision: str = "fp32",
) -> PartScores:
    """Encode one part with a method, which is left in eval mode.

    Identical captions are encoded and scored once, then expanded, so that they tie exactly.
    """
    images, pairs = dataset.part(split, part), dataset.pairs(split, part)
    position = np.full(len(dataset.filenames), -1)
    position[images] = np.arange(len(images))
    texts, column = np.unique(dataset.caption_text[pairs[:, 1]], return_inverse=True)
    expand = torch.from_numpy(column).to(device)

    method.eval()  # and it stays so: `similarity` is called block by block later
    with autocast(device, precision):
        image = encode_all(lambda i: method.encode_images(inputs.images(i, device)), torch.from_numpy(images.copy()))
        text = encode_all(lambda i: method.encode_texts(inputs.texts(i, device)), torch.from_numpy(texts))

    @torch.no_grad()
    def block(start: int, stop: int) -> Tensor:
        with autocast(device, precision):
            return method.similarity(image[start:stop], text).float().index_select(1, expand)

    return PartScores(block, len(images), torch.from_numpy(position[pairs[:, 0]]))


def retrieval(scores: PartScores, folds: int = 1, progress: Progress = silent) -> Metrics:
    """Metrics of an encoded part; over ``folds`` equal runs of images where there are more than one.

    Raises:
        UsageError: the images do not divide into equal folds.
        NonFiniteError: a score is NaN or infinite.
    """
    if folds != 1:
        return fold_metrics(scores.block, scores.n_images, scores.caption_image, folds)
    return ranked(scores, progress)[0]


def ranked(scores: PartScores, progress: Progress = silent) -> tuple[Metrics, Ranks]:
    """Metrics of an encoded part, and the ranks that they were counted from.

    Raises:
        NonFiniteError: a score is NaN or infinite.
    """
    ranks = ranks_of_blocks(scores.block, scores.n_images, scores.caption_image, progress=progress)
    return metrics(ranks, scores.caption_image), ranks
