"""Weights of several losses learned with them. Source: RDB (arXiv 2505.16756) Eq. 14."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST = 1e-6
"""Floor of a variance."""


def uncertainty_weighted(losses: Tensor, variance: Tensor) -> Tensor:
    """``L / (2 sigma^2) + log(1 + sigma^2)`` per loss, ``[K]``.

    For a fixed L the best variance is ``(L + sqrt(L^2 + 8 L)) / 4``.

    Args:
        losses: ``[K]``, not negative.
        variance: sigma squared, ``[K]``, positive.
    """
    return losses / (2 * variance) + torch.log1p(variance)


class LearnedWeights(nn.Module):
    """One learned sigma per loss; a vector, so that it goes without weight decay.

    Args:
        count: K.
        start: initial sigma.
    """

    def __init__(self, count: int, start: float = 1.0) -> None:
        super().__init__()
        self.sigma = nn.Parameter(torch.full((count,), start))

    @property
    def variance(self) -> Tensor:
        """Sigma squared, at least 1e-6, ``[K]``."""
        return self.sigma.square().clamp(min=SMALLEST)

    @property
    def weights(self) -> Tensor:
        """``1 / (2 sigma^2)``, ``[K]``."""
        return 1 / (2 * self.variance)

    @torch.no_grad()
    def bound_(self) -> None:
        """Move sigma back to its floor after a step; below it the clamp would stop its gradient for good."""
        floor = (1.01 * SMALLEST) ** 0.5
        self.sigma.copy_(self.sigma.where(self.sigma.abs() > floor, floor))

    def forward(self, losses: Tensor) -> Tensor:
        """Sum of the weighted losses and of their logarithms."""
        return uncertainty_weighted(losses, self.variance).sum()
