"""Noise kind ``pmp``: shown captions of other images that a scorer finds unlike the image (PMPGuard, AAAI 2026).

Candidates are drawn first and only they are scored, so that the work grows with the pairs and not with their square.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rsbench.data.dataset import Dataset, Ints
from rsbench.errors import NoiseError, UsageError
from rsbench.noise.boundary import boundary
from rsbench.noise.index import NoiseSpec
from rsbench.noise.slots import row_slots
from rsbench.seeding import derive_seed

PMP = "pmp"
"""Name of the kind."""

TRIES = 50
"""Draws per replaced caption, after which the lowest-scoring draw is taken."""

SAMPLE = 50_000
"""Most matched, and as many mismatched, pairs that the threshold is found on."""

DIGITS = 6
"""Decimals of a threshold that is found, so that it can be typed again and does not hang on a last bit."""

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
ScorePairs = Callable[[Ints, Ints], Floats]
"""(images ``[K]``, captions ``[K]``) -> scores ``[K]``, higher = more alike."""


@dataclass(frozen=True)
class Sample:
    """Scores that the threshold is found on.

    Attributes:
        matched: scores of the dataset's own pairs.
        mismatched: scores of the same images, each with a caption of another image drawn at random.
    """

    matched: Floats
    mismatched: Floats

    def below(self, threshold: float) -> float:
        """Share of mismatched pairs below a threshold."""
        return float((self.mismatched < threshold).mean())


@dataclass(frozen=True)
class Replaced:
    """What was done to the clean pairs.

    Attributes:
        pairs: int64 ``[P, 2]`` as shown.
        rows: ``[R]``, the rows whose caption was replaced.
        scores: ``[R]``, score of the given image against the shown caption.
        fell_back: ``[R]``, none of the draws was below the threshold.
    """

    pairs: Ints
    rows: Ints
    scores: Floats
    fell_back: Flags


def check_pmp(spec: NoiseSpec) -> None:
    """Refuse fields of the kind on other kinds, and what no list can be made with.

    Raises:
        UsageError: which flag, what is allowed.
    """
    given = [f for f in ("scorer", "threshold", "quantile") if getattr(spec, f) not in ("", None)]
    if spec.kind != PMP:
        if given:
            raise UsageError(
                f"--scorer, --pmp-threshold and --pmp-quantile belong to noise kind {PMP}, not {spec.kind}"
            )
        return
    if spec.threshold is not None and spec.quantile is not None:
        raise UsageError("--pmp-threshold and --pmp-quantile both set the threshold; give one of them")
    if spec.threshold is not None and not math.isfinite(spec.threshold):
        raise UsageError(f"--pmp-threshold {spec.threshold} is no score; give a finite number such as 0.2")
    if spec.quantile is not None and not 0 < spec.quantile < 1:
        raise UsageError(f"--pmp-quantile {spec.quantile:g} is outside (0, 1); give a share such as 0.5")


def sample(dataset: Dataset, split: str, score: ScorePairs) -> Sample:
    """Score the training part's own pairs and as many random mismatched ones, at most ``SAMPLE`` of each.

    Raises:
        NoiseError: fewer than two training images, or a score that is not finite.
    """
    clean = dataset.pairs(split, "train")
    bits = np.random.PCG64(derive_seed("pmp-sample", dataset.fingerprint, split))
    rows = np.sort(np.argsort(bits.random_raw(len(clean)), kind="stable")[:SAMPLE])
    other = _Others(clean).draw(rows, bits.random_raw(len(rows)))
    images = clean[rows, 0]
    return Sample(_finite(score(images, clean[rows, 1])), _finite(score(images, clean[other, 1])))


def threshold_of(spec: NoiseSpec, found: Sample) -> float:
    """The threshold that a spec asks for: given, a quantile of mismatched scores, or the boundary of two normals.

    Raises:
        NoiseError: the boundary is asked for and matched pairs do not score higher on average.
    """
    if spec.threshold is not None:
        return spec.threshold
    if spec.quantile is not None:
        return round(float(np.quantile(found.mismatched.astype(np.float64), spec.quantile)), DIGITS)
    pos, neg = normal(found.matched), normal(found.mismatched)
    if not pos[0] > neg[0]:
        raise NoiseError(
            f"the scorer does not tell matched pairs (mean score {pos[0]:.4g}) from mismatched ones ({neg[0]:.4g}); "
            "give another --scorer, or a threshold of your own with --pmp-threshold or --pmp-quantile"
        )
    both = np.concatenate([found.matched, found.mismatched])
    return round(boundary(*pos, *neg, alpha=1.0, low=float(both.min()), high=float(both.max())), DIGITS)


def normal(scores: Floats) -> tuple[float, float]:
    """Mean and standard deviation."""
    wide = scores.astype(np.float64)
    return float(wide.mean()), float(wide.std())


def replace_captions(
    dataset: Dataset, split: str, spec: NoiseSpec, score: ScorePairs, threshold: float, found: Sample
) -> Replaced:
    """Replace the captions of exactly ``int(rate * units)`` units by ones of other images below a threshold.

    Unit ``caption`` chooses pairs; unit ``image`` chooses image slots and replaces each of their captions. A caption
    may be used several times or vanish. Chosen units and candidates come from raw words of PCG64, whose stream
    numpy freezes, and depend on neither threshold nor scorer.

    Args:
        dataset: the dataset.
        split: its split scheme.
        spec: rate, unit and seed.
        score: the scorer.
        threshold: a candidate is taken where its score is lower.
        found: told in the error.

    Raises:
        NoiseError: no candidate of any pair is below the threshold, or a score is not finite.
    """
    clean = dataset.pairs(split, "train")
    seed = derive_seed("noise", dataset.fingerprint, split, PMP, spec.unit, repr(float(spec.rate)), spec.seed)
    bits = np.random.PCG64(seed)
    rows = _chosen_rows(clean, spec, bits)
    source, scores = _draw(clean, rows, bits, score, threshold)
    fell_back = ~(scores < threshold)
    if len(rows) and fell_back.all():
        raise NoiseError(
            f"no caption scores below the threshold {threshold:.4g} for any image: {100 * found.below(threshold):.2f} "
            f"% of random mismatched pairs do (lowest {found.mismatched.min():.4g}); raise --pmp-threshold, or give "
            "--pmp-quantile 0.5"
        )
    shown = clean.copy()
    shown[rows, 1] = clean[source, 1]
    return Replaced(shown, rows, scores, fell_back)


def _chosen_rows(clean: Ints, spec: NoiseSpec, bits: np.random.PCG64) -> Ints:
    slots = row_slots(clean) if spec.unit == "image" else np.arange(len(clean))
    units = int(slots[-1]) + 1
    chosen = np.argsort(bits.random_raw(units), kind="stable")[: int(spec.rate * units)]
    return np.flatnonzero(np.isin(slots, chosen))


def _draw(clean: Ints, rows: Ints, bits: np.random.PCG64, score: ScorePairs, threshold: float) -> tuple[Ints, Floats]:
    """The clean row whose caption each row shows, and its score: the first below the threshold, else the lowest."""
    others = _Others(clean)
    source, lowest = rows.copy(), np.full(len(rows), np.inf, dtype=np.float32)
    open_rows = np.arange(len(rows))
    for _ in range(TRIES):
        if not len(open_rows):
            break
        words = bits.random_raw(len(rows))  # for all rows, so that the draws of one do not depend on the others'
        drawn = others.draw(rows[open_rows], words[open_rows])
        scores = _finite(score(clean[rows[open_rows], 0], clean[drawn, 1]))
        better = scores < lowest[open_rows]
        source[open_rows[better]], lowest[open_rows[better]] = drawn[better], scores[better]
        open_rows = open_rows[~(lowest[open_rows] < threshold)]
    return source, lowest


class _Others:
    """Draws rows of other images; the rows of one image are adjacent in the clean list."""

    def __init__(self, clean: Ints) -> None:
        slots = row_slots(clean)
        counts = np.bincount(slots)
        if len(counts) < 2:
            raise NoiseError(f"noise kind {PMP} needs captions of other images; the training part has one image")
        self.pairs, self.count, self.first = len(clean), counts[slots], (np.cumsum(counts) - counts)[slots]

    def draw(self, rows: Ints, words: npt.NDArray[np.uint64]) -> Ints:
        """``[K]`` rows, one for each of ``rows``, from as many random words."""
        free = (self.pairs - self.count[rows]).astype(np.uint64)
        place = (words % free).astype(np.int64)
        return place + np.where(place >= self.first[rows], self.count[rows], 0)


def _finite(scores: Floats) -> Floats:
    if not np.isfinite(scores).all():
        raise NoiseError("the scorer gives scores that are not finite; give another --scorer")
    return scores.astype(np.float32, copy=False)
