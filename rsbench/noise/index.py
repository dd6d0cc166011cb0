"""The noise index: the list of training pairs as shown."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rsbench.data.dataset import Dataset, Ints

REAL = "real"
"""Kind of data that come noisy: the dataset's own pairs, of which no truth is known."""


@dataclass(frozen=True)
class NoiseSpec:
    """What noise is asked for.

    Attributes:
        kind: ``none``, ``shuffle``, ``pmp``, ``real``, or a registered kind.
        unit: ``caption`` or ``image``.
        rate: nominal share in [0, 1).
        source: ``official`` (a published list), ``generated``, or ``file:NAME`` for an imported one.
        seed: seed of the generator; fixed for all methods and, by default, for all run seeds.
        scorer: kind ``pmp`` only: the model that scores candidate captions, ``georsclip``, ``openclip:MODEL/TAG``,
            or ``run:HASH`` for a finished run.
        threshold: kind ``pmp`` only: captions scoring below it are taken; None for the two-Gaussian boundary.
        quantile: kind ``pmp`` only: the threshold as a quantile of the scores of random mismatched pairs.
    """

    kind: str = "shuffle"
    unit: str = "caption"
    rate: float = 0.0
    source: str = "generated"
    seed: int = 42
    scorer: str = ""
    threshold: float | None = None
    quantile: float | None = None


@dataclass(frozen=True)
class NoiseIndex:
    """Training pairs as shown, int64 ``[P, 2]`` (image, caption).

    The row number is the stable id of a pair; row r of the dataset's own pairs is its clean form.
    """

    spec: NoiseSpec
    dataset: str
    fingerprint: str
    split: str
    pairs: Ints

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the pairs as little-endian int64, row by row."""
        return hashlib.sha256(np.ascontiguousarray(self.pairs, dtype="<i8").tobytes()).hexdigest()


@dataclass(frozen=True)
class Realised:
    """What an index really did, as shares of all pairs.

    Attributes:
        moved: rows that differ from the dataset's own row.
        foreign: rows whose caption belongs to another image.
        mismatched: rows whose text is not among the given image's own texts. This is the truth
            that noise detection is scored against; None for kind ``real``, of which no truth is known.
    """

    moved: float
    foreign: float
    mismatched: float | None


def mismatched_pairs(dataset: Dataset, pairs: Ints) -> np.ndarray:
    """Boolean ``[P]``: the shown text is not among the given image's own texts (compared as strings)."""
    texts = dataset.caption_text
    n_texts = len(dataset.texts)
    own = np.unique(dataset.caption_image * n_texts + texts)
    return ~np.isin(pairs[:, 0] * n_texts + texts[pairs[:, 1]], own)


def known_mismatches(dataset: Dataset, index: NoiseIndex) -> np.ndarray | None:
    """``mismatched_pairs`` of an index; None for kind ``real``, of which no truth is known."""
    return None if index.spec.kind == REAL else mismatched_pairs(dataset, index.pairs)


def realised(dataset: Dataset, index: NoiseIndex) -> Realised:
    """Measure an index against the dataset's own pairs of its split."""
    clean = dataset.pairs(index.split, "train")
    foreign = dataset.caption_image[index.pairs[:, 1]] != index.pairs[:, 0]
    noisy = known_mismatches(dataset, index)
    return Realised(
        moved=float((index.pairs != clean).any(axis=1).mean()) if clean.shape == index.pairs.shape else float("nan"),
        foreign=float(foreign.mean()),
        mismatched=None if noisy is None else float(noisy.mean()),
    )
