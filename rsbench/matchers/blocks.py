"""Scores of many images against many texts, block by block, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rsbench.backbones.base import Features

BlockScore = Callable[[Features, Features], Tensor]
"""Scores ``[n, m]`` of n images against m texts."""


def in_blocks(score: BlockScore, image: Features, text: Features, image_rows: int, text_rows: int) -> Tensor:
    """Scores ``[N, M]``, asked for in blocks of at most ``image_rows`` images by ``text_rows`` texts.

    Args:
        score: must give each pair the same score whatever block it comes in.
        image: features of N images.
        text: features of M texts.
        image_rows: images per block, at least 1.
        text_rows: texts per block, at least 1.
    """
    if len(image) <= image_rows and len(text) <= text_rows:
        return score(image, text)
    found: Tensor | None = None
    for b in range(0, len(text), text_rows):
        columns = text[b : b + text_rows]
        for a in range(0, len(image), image_rows):
            block = score(image[a : a + image_rows], columns)
            if found is None:
                found = block.new_empty(len(image), len(text))
            found[a : a + len(block), b : b + len(columns)] = block
    return found if found is not None else torch.empty(len(image), len(text), device=image.pooled.device)
