"""Statistics against scipy, against plain loops over all cases, and against printed tables."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rsbench.errors import DependencyError, UsageError
from rsbench.evaluation import significance
from rsbench.evaluation.significance import (
    average_ranks,
    bootstrap_mr,
    cliques,
    critical_difference,
    friedman,
    holm,
    mean_std,
    sign_flip_p,
    smallest_p,
    t_interval,
)

few = st.lists(st.floats(-50, 50), min_size=2, max_size=8)
integers = st.lists(st.integers(-3, 3), min_size=1, max_size=8)


def flips(differences):
    """The share of all sign patterns that is as extreme, pattern by pattern."""
    seen = abs(sum(differences))
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    return sum(abs(sum(s * d for s, d in zip(p, differences, strict=True))) >= seen for p in patterns) / len(patterns)


def mr_of(i2t, t2i):
    shares = [sum(r < k for r in ranks) / len(ranks) for ranks in (i2t, t2i) for k in (1, 5, 10)]
    return 100 * sum(shares) / 6


def ranks(generator, n, m, shift=0):
    return [generator.randint(0, 12 + shift) for _ in range(n)], [generator.randint(0, 12 + shift) for _ in range(m)]


@given(few)
def test_interval_is_scipys(values):
    found, wanted = t_interval(values), stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    if statistics.stdev(values) > 1e-9:
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-9, abs=1e-9)
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-9)


def test_interval_of_five_pairs_by_hand():
    found = t_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3
    assert found.high - 3 == pytest.approx(2.776445 * math.sqrt(2.5) / math.sqrt(5), rel=1e-6)
    assert not found.holds_zero
    assert t_interval([-1.0, 1.0]).holds_zero


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    draw = random.Random(0)
    found = [t_interval([draw.gauss(1.0, 2.0) for _ in range(5)]) for _ in range(1000)]
    assert 0.93 < sum(f.low <= 1 <= f.high for f in found) / 1000 < 0.97


def test_one_value_has_neither_spread_nor_interval():
    assert mean_std([3.0]) == (3.0, None)
    assert mean_std([1.0, 3.0]) == (2.0, pytest.approx(math.sqrt(2)))
    assert t_interval([3.0]) is None


@given(integers)
@settings(deadline=None)
def test_sign_flips_are_gone_through_one_by_one(differences):
    assert sign_flip_p(differences) == pytest.approx(flips(differences))


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=8), st.integers(0, 2**8 - 1))
@settings(deadline=None, max_examples=30)
def test_sign_flips_are_scipys_permutation_test(sizes, signs):
    differences = [s if signs >> i & 1 else -s for i, s in enumerate(sizes)]
    wanted = stats.permutation_test(
        (differences,),
        lambda x, axis: x.sum(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert sign_flip_p(differences) == pytest.approx(wanted.pvalue)


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_equal_signs_reach_the_smallest_p(n):
    assert sign_flip_p([0.1 * (i + 1) for i in range(n)]) == smallest_p(n) == pytest.approx(2 / 2**n)


def test_rounding_does_not_lose_ties():
    assert sign_flip_p([0.1, 0.2, 0.3, -0.6]) == 1.0
    assert sign_flip_p([0.0, 0.0]) == 1.0


def test_many_pairs_are_drawn_and_never_zero():
    draw = random.Random(3)
    differences = [draw.gauss(0.3, 1) for _ in range(25)]
    wanted = stats.permutation_test(
        (differences,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", n_resamples=50_000,
        vectorized=True, rng=np.random.default_rng(1),
    )  # fmt: skip
    assert sign_flip_p(differences) == pytest.approx(wanted.pvalue, abs=0.01)
    assert 0 < sign_flip_p([1.0] * 30) < 1e-4


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_what_the_step_down_procedure_rejects(ps):
    adjusted, alpha = holm(ps), 0.05
    rejected = set()
    for step, at in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        if ps[at] * (len(ps) - step) > alpha:
            break
        rejected.add(at)
    assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected
    assert all(a >= p for a, p in zip(adjusted, ps, strict=True))


def test_bootstrap_is_a_plain_loop_over_drawn_queries():
    draw = random.Random(5)
    first, second = [[ranks(draw, 30, 50, shift) for _ in range(3)] for shift in (0, 4)]
    found = bootstrap_mr(first, second, resamples=4000)
    seen = statistics.fmean(mr_of(*a) - mr_of(*b) for a, b in zip(first, second, strict=True))
    assert found.mean == pytest.approx(seen)
    means = []
    for _ in range(2000):
        images, captions = [draw.randrange(30) for _ in range(30)], [draw.randrange(50) for _ in range(50)]
        drawn = [
            [([i2t[q] for q in images], [t2i[q] for q in captions]) for i2t, t2i in side] for side in (first, second)
        ]
        means.append(statistics.fmean(mr_of(*a) - mr_of(*b) for a, b in zip(*drawn, strict=True)))
    low, high = np.quantile(means, [0.025, 0.975])
    width = high - low
    assert found.low == pytest.approx(low, abs=0.08 * width)
    assert found.high == pytest.approx(high, abs=0.08 * width)


def test_bootstrap_keeps_query_pairs_together():
    draw = random.Random(6)
    i2t, t2i = ranks(draw, 40, 60)
    assert bootstrap_mr([(i2t, t2i)], [(i2t, t2i)]) == (0.0, 0.0, 0.0)
    worse = [r + 100 for r in i2t], [r + 100 for r in t2i]
    assert bootstrap_mr([(i2t, t2i)], [worse]).low > 0
    swapped = bootstrap_mr([worse], [(i2t, t2i)])
    assert swapped.high < 0


def test_bootstrap_is_seeded():
    draw = random.Random(7)
    first, second = [ranks(draw, 20, 30)], [ranks(draw, 20, 30)]
    assert bootstrap_mr(first, second) == bootstrap_mr(first, second)
    assert bootstrap_mr(first, second, seed=1) != bootstrap_mr(first, second)


def test_bootstrap_refuses_what_cannot_be_paired():
    one, other = ([0, 1], [0, 1, 2]), ([0, 1], [0, 1])
    with pytest.raises(UsageError, match="0 and 1 runs cannot be paired"):
        bootstrap_mr([], [one])
    with pytest.raises(UsageError, match=r"tested on \[2, 3\] queries"):
        bootstrap_mr([one], [other])


@given(st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=2, max_size=6))
@settings(deadline=None)
def test_average_ranks_count_who_is_better(scores):
    def rank(row, at):
        return 1 + sum(v > row[at] for v in row) + (sum(v == row[at] for v in row) - 1) / 2

    wanted = [statistics.fmean(rank(row, at) for row in scores) for at in range(4)]
    assert average_ranks(scores).tolist() == pytest.approx(wanted)


def test_friedman_of_demsars_table():
    """Table 6 of Demšar 2006: chi-squared 9.28 from average ranks 3.143, 2.000, 2.893, 1.964 over 14 sets, no ties."""
    average, n, k = (3.143, 2.000, 2.893, 1.964), 14, 4
    plain = 12 * n / (k * (k + 1)) * (sum(r * r for r in average) - k * (k + 1) ** 2 / 4)
    assert plain == pytest.approx(9.28, abs=0.02)
    draw = random.Random(8)
    scores = [draw.sample(range(100), k) for _ in range(n)]
    ours = average_ranks(scores)
    found = friedman(scores)
    assert found.statistic == pytest.approx(12 * n / (k * (k + 1)) * (sum(ours**2) - k * (k + 1) ** 2 / 4))
    assert found.p == pytest.approx(stats.chi2.sf(found.statistic, k - 1))


def test_friedman_needs_three_methods_two_blocks_and_a_difference():
    assert friedman([[1, 2], [3, 4], [5, 6]]) is None
    assert friedman([[1, 2, 3]]) is None
    assert friedman([[1, 1, 1], [2, 2, 2]]) is None


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (8, 3.031), (10, 3.164)])
def test_critical_difference_of_demsars_table(k, q):
    """Table 5 (a) of Demšar 2006, two-tailed Nemenyi test at 0.05."""
    assert critical_difference(k, 14) == pytest.approx(q * math.sqrt(k * (k + 1) / (6 * 14)), rel=1e-3)


@given(st.lists(st.floats(1, 9), min_size=1, max_size=7).map(sorted), st.floats(0.1, 4))
def test_cliques_are_the_longest_runs(values, critical):
    wanted = {
        (i, j) for i in range(len(values)) for j in range(i + 1, len(values)) if values[j] - values[i] <= critical
    }
    longest = {(i, j) for i, j in wanted if not any((a <= i and j <= b) and (a, b) != (i, j) for a, b in wanted)}
    assert set(cliques(values, critical)) == longest


def test_without_scipy_the_extra_is_named(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(significance.importlib, "import_module", absent)
    significance.t_quantile.cache_clear()
    for call in (lambda: t_interval([1.0, 2.0]), lambda: average_ranks([[1, 2]]), lambda: critical_difference(3, 5)):
        with pytest.raises(DependencyError, match=r"pip install 'rsbench\[stats\]'"):
            call()
    assert sign_flip_p([1.0, 2.0]) == 0.5, "needs numpy alone"
