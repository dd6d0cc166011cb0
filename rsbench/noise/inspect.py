"""What a noise index really holds, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rsbench.data.dataset import Dataset
from rsbench.noise.index import NoiseIndex, Realised, known_mismatches, realised


@dataclass(frozen=True)
class Summary:
    """A noise index in numbers.

    Attributes:
        pairs: training pairs P.
        images: images shown in them.
        realised: shares of all pairs (moved, foreign, mismatched).
        noisy_images: images shown with at least one mismatched caption; None where no truth is known.
        noisy_per_image: entry k = images shown with k mismatched captions; empty where no truth is known.
    """

    pairs: int
    images: int
    realised: Realised
    noisy_images: int | None
    noisy_per_image: tuple[int, ...]


def summarise(dataset: Dataset, index: NoiseIndex) -> Summary:
    """Count mismatched captions, in all and per given image."""
    images, slot = np.unique(index.pairs[:, 0], return_inverse=True)
    truth = known_mismatches(dataset, index)
    if truth is None:
        return Summary(len(index.pairs), len(images), realised(dataset, index), None, ())
    noisy = np.bincount(slot[truth], minlength=len(images))
    most = int(np.bincount(slot).max())
    counts = np.bincount(noisy, minlength=most + 1)
    return Summary(
        pairs=len(index.pairs),
        images=len(images),
        realised=realised(dataset, index),
        noisy_images=int(len(images) - counts[0]),
        noisy_per_image=tuple(counts.tolist()),
    )
