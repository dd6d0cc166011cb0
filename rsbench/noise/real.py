"""Noise kind ``real``: data that come noisy run as they are. Which pairs are mismatched is not known."""

from __future__ import annotations

from rsbench.data.dataset import Dataset, Ints
from rsbench.noise.index import NoiseSpec


def real(dataset: Dataset, split: str, spec: NoiseSpec) -> Ints:
    """The dataset's own training pairs ``[P, 2]``, of which no truth is known."""
    del spec
    return dataset.pairs(split, "train")
