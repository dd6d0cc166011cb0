"""What is evidence and what is chance: intervals, paired tests, average ranks. No torch; scipy only where it is called.

Rank tests over many data sets follow Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7,
2006; the resampling of queries follows Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
"""

from __future__ import annotations

import functools
import importlib
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rsbench.errors import DependencyError, UsageError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEVEL = 0.95
"""Confidence of the intervals."""

ENUMERATED = 20
"""Pairs up to which all sign flips are gone through (2 ** 20); beyond, ``DRAWN`` of them are drawn."""

DRAWN = 200_000
RESAMPLES = 10_000
CUTS = (1, 5, 10)
"""K of the recalls whose mean is mR."""


class Interval(NamedTuple):
    """A mean with the bounds of its interval."""

    mean: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether a difference of 0 is within the bounds."""
        return self.low <= 0 <= self.high


class Friedman(NamedTuple):
    """Friedman's test of equal average ranks: chi-squared statistic and p."""

    statistic: float
    p: float


def scipy_module(name: str) -> Any:
    """A module of scipy, such as ``stats``.

    Raises:
        DependencyError: scipy is not installed.
    """
    try:
        return importlib.import_module(f"scipy.{name}")
    except ImportError:
        raise DependencyError("statistics need scipy; install with: pip install 'rsbench[stats]'") from None


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n-1), None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


@functools.cache
def t_quantile(level: float, freedom: int) -> float:
    """Half the width, in standard errors, of Student's two-sided interval.

    Raises:
        DependencyError: scipy is not installed.
    """
    return float(scipy_module("special").stdtrit(freedom, (1 + level) / 2))


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Student's interval of the mean; of paired differences it is the paired t-test's. None below two values.

    Raises:
        DependencyError: scipy is not installed.
    """
    mean, std = mean_std(values)
    if std is None:
        return None
    half = t_quantile(level, len(values) - 1) * std / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def smallest_p(n: int) -> float:
    """The smallest p that a two-sided sign-flip test of n pairs can give: two of 2^n flips are the extreme ones."""
    return min(1.0, 2.0 ** (1 - n))


def sign_flip_p(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided paired permutation test of a mean difference of 0.

    Under the hypothesis each difference is as likely as its negative. p is the share of all 2^n flips whose sum is at
    least as far from 0 as the one seen; exact up to ``ENUMERATED`` pairs, beyond from ``DRAWN`` flips, the seen one
    counted in (Phipson and Smyth, "Permutation p-values should never be zero", 2010).

    Args:
        differences: one per pair, at least one.
        seed: of the flips that are drawn.
    """
    pairs = np.asarray(differences, dtype=np.float64)
    limit = abs(pairs.sum()) - 1e-9 * np.abs(pairs).sum()  # sums in another order differ in their last digits
    if len(pairs) <= ENUMERATED:
        sums = np.zeros(1)
        for pair in pairs:
            sums = np.concatenate([sums + pair, sums - pair])
        return float((np.abs(sums) >= limit).mean())
    signs = np.random.default_rng(seed).integers(0, 2, (DRAWN, len(pairs)), dtype=np.int8) * 2 - 1
    hits = int((np.abs(signs @ pairs) >= limit).sum())
    return (hits + 1) / (DRAWN + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """The p values adjusted for their number, in the order given (Holm, 1979)."""
    adjusted, highest = [0.0] * len(ps), 0.0
    for place, at in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[at]))
        adjusted[at] = highest
    return adjusted


def _hits(ranks: npt.ArrayLike) -> Ints:
    """How many of the three recalls each query counts for."""
    found: Ints = sum((np.asarray(ranks) < k).astype(np.int64) for k in CUTS)  # type: ignore[assignment]
    return found


def _resampled_means(gains: Ints, resamples: int, generator: np.random.Generator) -> Floats:
    """Means of gains drawn with replacement: only a few values occur, so their counts are multinomial."""
    values, counts = np.unique(gains, return_counts=True)
    drawn = generator.multinomial(len(gains), counts / len(gains), resamples)
    means: Floats = drawn @ values / len(gains)
    return means


def bootstrap_mr(
    first: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    second: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a difference in mR, from paired resampling of the test queries.

    Images are drawn for i2t and captions for t2i. A drawn query brings its ranks under both methods and in all runs,
    so that the interval is about other queries for these very models, not about other seeds.

    Args:
        first: per run (i2t ranks ``[N]``, t2i ranks ``[M]``), from 0.
        second: of the method to subtract, the same number of runs on the same queries.
        resamples: test sets drawn.
        level: share of them between the bounds.
        seed: of the draws.

    Returns:
        mR of ``first`` - mR of ``second`` in percent points, averaged over the runs.

    Raises:
        UsageError: no runs, or queries that do not match.
    """
    if not first or len(first) != len(second):
        raise UsageError(f"{len(first)} and {len(second)} runs cannot be paired; give as many of each, at least one")
    generator, scale = np.random.default_rng(seed), 100 / (6 * len(first))
    mean, draws = 0.0, np.zeros(resamples)
    for way in (0, 1):
        hits = [[_hits(run[way]) for run in side] for side in (first, second)]
        sizes = {len(h) for side in hits for h in side}
        if len(sizes) != 1 or 0 in sizes:
            raise UsageError(f"runs were tested on {sorted(sizes)} queries; compare runs of one test part")
        gains: Ints = np.sum(hits[0], 0) - np.sum(hits[1], 0)
        mean += scale * float(gains.mean())
        draws += scale * _resampled_means(gains, resamples, generator)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def average_ranks(scores: npt.ArrayLike) -> Floats:
    """Average rank of each method, 1 = highest score; equal scores share the mean of their ranks.

    Args:
        scores: ``[blocks, methods]``, higher is better.

    Raises:
        DependencyError: scipy is not installed.
    """
    ranks: Floats = scipy_module("stats").rankdata(-np.asarray(scores, dtype=np.float64), axis=1).mean(0)
    return ranks


def friedman(scores: npt.ArrayLike) -> Friedman | None:
    """Friedman's test; None below three methods or two blocks, and where every block is tied.

    Args:
        scores: ``[blocks, methods]``.

    Raises:
        DependencyError: scipy is not installed.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.shape[0] < 2 or table.shape[1] < 3 or bool((table == table[:, :1]).all()):
        return None
    found = scipy_module("stats").friedmanchisquare(*table.T)
    return Friedman(float(found.statistic), float(found.pvalue))


def critical_difference(n_methods: int, n_blocks: int, alpha: float = 1 - LEVEL) -> float:
    """Nemenyi's critical difference of average ranks: smaller gaps are no difference shown (Demšar 2006, sec. 3.2.2).

    Raises:
        DependencyError: scipy is not installed.
    """
    studentized = float(scipy_module("stats").studentized_range.ppf(1 - alpha, n_methods, np.inf))
    return studentized / math.sqrt(2) * math.sqrt(n_methods * (n_methods + 1) / (6 * n_blocks))


def cliques(ranks: Sequence[float], critical: float) -> Iterator[tuple[int, int]]:
    """Longest runs of methods whose average ranks lie within the critical difference.

    Args:
        ranks: average ranks, ascending.
        critical: critical difference.

    Yields:
        First and last position of each run of at least two.
    """
    reached = 0
    for first, rank in enumerate(ranks):
        last = max(at for at, other in enumerate(ranks) if other - rank <= critical)
        if last > max(first, reached):
            yield first, last
            reached = last
