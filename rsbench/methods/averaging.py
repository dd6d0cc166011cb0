"""Exponential moving average of parameters, and a way to run a module with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedCopy(nn.Module):
    """Average of some parameters over optimizer steps, kept in buffers; starts as a copy.

    Args:
        parameters: of another module; they are referred to, not registered.
        decay: share of the old average in the new one.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        super().__init__()
        self.decay, self._live = decay, list(parameters)
        for i, parameter in enumerate(self._live):
            self.register_buffer(f"average_{i}", parameter.detach().clone())

    def averages(self) -> list[Tensor]:
        """The averages, in the order of the parameters."""
        return list(self.buffers())

    @torch.no_grad()
    def update(self) -> None:
        """``average <- decay * average + (1 - decay) * live``."""
        for average, live in zip(self.averages(), self._live, strict=True):
            average.lerp_(live, 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The live parameters hold the averages inside; use it before the live forward pass, without gradient."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def settle(self) -> None:
        """Give the live parameters the averages for good."""
        for average, live in zip(self.averages(), self._live, strict=True):
            live.copy_(average)

    def _swap(self) -> None:
        for average, live in zip(self.averages(), self._live, strict=True):
            average.data, live.data = live.data, average.data
