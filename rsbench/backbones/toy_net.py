"""The small conv net behind the ``toy`` backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 128
"""Channels of the map, and of the pooled vector."""

SIDE = 6
"""Side of the map."""

_CHANNELS = (32, 64, 96, WIDTH)


class ToyNet(nn.Module):
    """Four convolutions over pixels and their coordinates, ``[B, 3, 48, 48] -> [B, 128, 6, 6]``.

    Coordinates are given as two more channels, because the mean of the map must tell where things are.
    """

    def __init__(self) -> None:
        super().__init__()
        inside = 5
        stages: list[nn.Module] = []
        for stride, outside in zip((2, 2, 1, 2), _CHANNELS, strict=True):
            stages.append(nn.Conv2d(inside, outside, 3, stride, padding=1))
            stages.append(nn.GroupNorm(8, outside))
            stages.append(nn.ReLU(inplace=True))
            inside = outside
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, 128, h/8, w/8]`` of images ``[B, 3, h, w]`` in [-1, 1]."""
        height, width = x.shape[-2:]
        rows = torch.linspace(-1, 1, height, device=x.device).view(1, 1, height, 1).expand(len(x), 1, height, width)
        columns = torch.linspace(-1, 1, width, device=x.device).view(1, 1, 1, width).expand(len(x), 1, height, width)
        found: Tensor = self.stages(torch.cat((x, rows, columns), dim=1))
        return found
