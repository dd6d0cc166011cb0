"""Small made-up datasets for backbone tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from small_towers import shrunk

from rsbench.data.dataset import Dataset

WORDS = ("a", "the", "red", "blue", "plane", "ship", "road", "near", "many", "two", "green", "river", "house", "beside")


def make_dataset(n: int = 12, seed: int = 0, side: int = 24, per_image: int = 2) -> Dataset:
    """n random images with a repeated caption among their captions; two thirds train; region features beside."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    captions = [" ".join(rng.choice(WORDS, rng.integers(2, 7))) for _ in range(n * per_image)]
    captions[-1] = captions[0]
    parts = {"train": np.arange(2 * n // 3)[::-1].copy(), "val": np.arange(2 * n // 3, n)}
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    return Dataset(
        name=f"fake{seed}",
        fingerprint=digest,
        images=images,
        images_hash=digest,
        filenames=tuple(f"{i}.png" for i in range(n)),
        captions=tuple(captions),
        caption_image=np.repeat(np.arange(n), per_image),
        image_class=np.full(n, -1),
        classes=(),
        splits={"official": parts},
        regions=np.random.default_rng(seed).normal(size=(n, 3, 6)).astype(np.float32),
    )


@pytest.fixture
def fake() -> Callable[..., Dataset]:
    """Maker of datasets: ``fake(n, seed, side, per_image)``."""
    return make_dataset


@pytest.fixture
def small_towers() -> Iterator[None]:
    """Small twins of Swin, BERT and ResNet."""
    with shrunk():
        yield
