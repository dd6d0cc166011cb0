"""Random crops and mirror images, drawn for each pair and done for a whole batch where its pixels lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rsbench.seeding import derive_seed

RATIO = 4 / 3
"""Largest ratio of the sides of a crop, as in pytorch/vision RandomResizedCrop."""

_BLOCK = 256  # images resampled at once; bounds memory


@dataclass(frozen=True)
class Augmentation:
    """Crops of random area and shape, resized to the whole again, and random mirroring.

    Attributes:
        crop: smallest share of the area that a crop keeps, 1 = no crops.
        flip: mirror left to right with probability one half.
    """

    crop: float
    flip: bool

    def draw(self, pairs: int, seed: int, epoch: int) -> Tensor:
        """Five uniform numbers of every pair, float64 ``[pairs, 5]``; a view depends on pair, seed and epoch alone."""
        generator = torch.Generator().manual_seed(derive_seed("augment", seed, epoch))
        return torch.rand(pairs, 5, generator=generator, dtype=torch.float64)

    def __call__(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """Views of images.

        Args:
            pixels: uint8 ``[B, H, W, 3]``.
            drawn: rows of ``draw``, ``[B, 5]``.

        Returns:
            uint8 ``[B, H, W, 3]``.
        """
        mirrored = (drawn[:, 4] < 0.5) & self.flip
        if self.crop == 1:
            return torch.where(mirrored.to(pixels.device)[:, None, None, None], pixels.flip(2), pixels)
        boxes = crop_boxes(drawn, pixels.shape[1], pixels.shape[2], self.crop)
        places = boxes.to(pixels.device), mirrored.to(pixels.device)
        blocks = zip(*(torch.split(t, _BLOCK) for t in (pixels, *places)), strict=True)
        return torch.cat([resampled(*block) for block in blocks])


def crop_boxes(drawn: Tensor, height: int, width: int, smallest: float) -> Tensor:
    """Boxes int64 ``[B, 4]`` (top, left, height, width) of uniform area and log-uniform ratio.

    Args:
        drawn: uniform numbers ``[B, 5]``; the first four are used.
        height: of the images.
        width: of the images.
        smallest: share of the area.
    """
    area = smallest + (1 - smallest) * drawn[:, 0]
    stretch = ((2 * drawn[:, 1] - 1) * math.log(RATIO) / 2).exp()
    h = (height * area.sqrt() / stretch).round().clamp(1, height)
    w = (width * area.sqrt() * stretch).round().clamp(1, width)
    top = (drawn[:, 2] * (height - h + 1)).floor()
    left = (drawn[:, 3] * (width - w + 1)).floor()
    return torch.stack([top, left, h, w], dim=1).long()


def resampled(pixels: Tensor, boxes: Tensor, mirrored: Tensor) -> Tensor:
    """Crops resized to the whole image by two matrix products each, bicubic and antialiased.

    The same filter as ``interpolate(mode="bicubic", antialias=True)`` on every crop alone.

    Args:
        pixels: uint8 ``[B, H, W, 3]``.
        boxes: int64 ``[B, 4]`` (top, left, height, width).
        mirrored: bool ``[B]``.
    """
    height, width = pixels.shape[1:3]
    rows = _weights(boxes[:, 0], boxes[:, 2], height)
    columns = _weights(boxes[:, 1], boxes[:, 3], width)
    columns = torch.where(mirrored[:, None, None], columns.flip(1), columns)
    x = torch.bmm(rows, pixels.float().flatten(2)).view(-1, height, width, 3)
    found = torch.einsum("bxw,bywc->byxc", columns, x)
    return found.round_().clamp_(0, 255).to(torch.uint8)


def _weights(start: Tensor, length: Tensor, size: int) -> Tensor:
    """``[B, size, size]``: share of every source position in every position of the result."""
    place = torch.arange(size, device=start.device, dtype=torch.float64)
    scale = (length / size)[:, None, None].double()
    first, last = start[:, None, None], (start + length)[:, None, None]
    centre = first + (place[:, None] + 0.5) * scale
    weight = _cubic((place + 0.5 - centre) / scale.clamp(min=1))
    weight = weight.where((place >= first) & (place < last), 0.0)
    return (weight / weight.sum(dim=2, keepdim=True)).float()


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5, as Pillow and antialiased ``interpolate`` use it."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return near.where(x < 1, far.where(x < 2, 0.0))
