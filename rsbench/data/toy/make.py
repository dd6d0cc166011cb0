"""The toy dataset, made from a seed: scenes, pictures and captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rsbench.data.toy.draw import draw_image
from rsbench.data.toy.land import SIDE
from rsbench.data.toy.scene import Scene, draw_scene
from rsbench.data.toy.words import write_captions
from rsbench.progress import Progress, silent
from rsbench.seeding import derive_seed

COUNTS = {"train": 2000, "val": 300, "test": 500}
CAPTIONS = 5


@dataclass(frozen=True)
class Toy:
    """Scenes with their pictures uint8 ``[N, SIDE, SIDE, 3]`` and five captions each."""

    scenes: tuple[Scene, ...]
    images: npt.NDArray[np.uint8]
    captions: tuple[tuple[str, ...], ...]


def make_toy(seed: int = 0, count: int | None = None, progress: Progress = silent) -> Toy:
    """Make scenes one by one, each from a generator of its own.

    Args:
        seed: of the dataset; a scene depends on this seed and its index alone.
        count: number of scenes, all of ``COUNTS`` by default.
        progress: called every hundred scenes.
    """
    total = sum(COUNTS.values()) if count is None else count
    scenes, captions = [], []
    images = np.empty((total, SIDE, SIDE, 3), np.uint8)
    for index in range(total):
        rng = np.random.Generator(np.random.PCG64(derive_seed("toy", seed, index)))
        scenes.append(draw_scene(rng))
        images[index] = draw_image(scenes[-1], rng)
        captions.append(tuple(write_captions(scenes[-1], rng, CAPTIONS)))
        if (index + 1) % 100 == 0 or index + 1 == total:
            progress("toy scenes", index + 1, total)
    return Toy(tuple(scenes), images, tuple(captions))
