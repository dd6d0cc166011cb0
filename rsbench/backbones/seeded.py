"""Initialisation that depends on its seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rsbench.seeding import derive_seed


@contextmanager
def seeded_init(seed: int) -> Iterator[None]:
    """Draw initial weights from ``seed``, whatever the global generator holds, and put that generator back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("init", seed))
        yield
