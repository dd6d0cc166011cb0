"""Small datasets for the tests of the noise layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from rsbench.data.dataset import Dataset

Build = Callable[..., Dataset]


def _build(counts: Sequence[int], texts: int | None = None, name: str = "unit", held_out: int = 2) -> Dataset:
    """Images with ``counts`` captions each in a scrambled split order, and ``held_out`` test images of two captions.

    ``texts`` limits the number of distinct sentences. Captions of one image are not adjacent in the table.
    """
    n = len(counts)
    owners = [i for k in range(max(counts)) for i in range(n) if counts[i] > k] + [n + i for i in range(held_out)] * 2
    sentences = tuple(f"scene {m if texts is None else m % texts}, seen" for m in range(len(owners)))
    train = np.random.RandomState(n).permutation(n).astype(np.int64)
    return Dataset(
        name=name,
        fingerprint=f"f{n}",
        images=np.zeros((n + held_out, 1, 1, 3), np.uint8),
        images_hash="0",
        filenames=tuple(f"img_{i}.tif" for i in range(n + held_out)),
        captions=sentences,
        caption_image=np.array(owners, dtype=np.int64),
        image_class=np.full(n + held_out, -1, dtype=np.int64),
        classes=(),
        splits={"official": {"train": train, "test": np.arange(n, n + held_out)}},
    )


@pytest.fixture(scope="session")
def build() -> Build:
    """A factory of small datasets."""
    return _build
