"""Cosine of pooled vectors, and its affine logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsbench.backbones.base import Features

MAX_SCALE = 100.0
"""Largest logit scale, as in CLIP."""


def cosine(image: Features, text: Features) -> Tensor:
    """Cosines ``[N, M]`` of pooled vectors, in at least fp32."""
    with torch.autocast(image.pooled.device.type, enabled=False):
        a, b = image.pooled, text.pooled
        if a.dtype in (torch.float16, torch.bfloat16):
            a, b = a.float(), b.float()
        return functional.normalize(a, dim=-1) @ functional.normalize(b, dim=-1).T


class AffineLogits(nn.Module):
    """Logits ``F = a * S + d`` of cosines S, with log a and d learnable scalars unless frozen.

    Args:
        scale: initial a, clamped to at most 100.
        shift: initial d.
        learn: whether gradients reach log a and d.
    """

    def __init__(self, scale: float, shift: float = 0.0, learn: bool = True) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learn)
        self.shift = nn.Parameter(torch.tensor(float(shift)), requires_grad=learn)

    @property
    def scale(self) -> Tensor:
        """a, at most 100."""
        return self.log_scale.exp().clamp(max=MAX_SCALE)

    @torch.no_grad()
    def bound_(self) -> None:
        """Move log a back to its bound after a step; above it the clamp would stop its gradient for good."""
        self.log_scale.clamp_(max=math.log(MAX_SCALE) - 1e-6)

    def forward(self, scores: Tensor) -> Tensor:
        """Logits of the shape of ``scores``."""
        return self.scale * scores + self.shift
