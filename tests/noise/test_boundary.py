"""The boundary between two normals: the card's vectors, a grid search, and its corners."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsbench.noise.boundary import boundary, mistakes

VECTORS = [
    (0.60, 0.10, 0.30, 0.10, 1, 0.450000, 0.133614),
    (0.60, 0.10, 0.30, 0.10, 2, 0.473105, 0.185672),
    (0.60, 0.10, 0.30, 0.15, 1, 0.460268, 0.223817),
    (0.60, 0.15, 0.30, 0.10, 2, 0.471279, 0.282159),
    (0.55, 0.12, 0.25, 0.08, 1.5, 0.395076, 0.150668),
    (0.30, 0.20, 0.30, 0.05, 1, 0.385986, 0.709118),
    (0.30, 0.05, 0.30, 0.20, 0.1, 0.159736, 0.078358),
    (0.35, 0.05, 0.30, 0.20, 10, 1.0, 1.002326),
]


def cdf(x, mean, std):
    return 0.5 * (1 + math.erf((x - mean) / (std * math.sqrt(2))))


def twin(t, mean_pos, std_pos, mean_neg, std_neg, alpha):
    return alpha * (1 - cdf(t, mean_neg, std_neg)) + cdf(t, mean_pos, std_pos)


@pytest.mark.parametrize(("mp", "sp", "mn", "sn", "alpha", "t", "least"), VECTORS)
def test_card_vectors(mp, sp, mn, sn, alpha, t, least):
    found = boundary(mp, sp, mn, sn, alpha)
    assert found == pytest.approx(t, abs=1e-6)
    assert mistakes(found, mp, sp, mn, sn, alpha) == pytest.approx(least, abs=1e-6)


def test_the_end_at_0_is_worse_than_the_root_of_the_seventh_vector():
    assert mistakes(0.0, 0.30, 0.05, 0.30, 0.20, 0.1) == pytest.approx(0.093319, abs=1e-6)


spread = st.floats(0.02, 0.4)
mean = st.floats(-0.3, 1.2)


@settings(max_examples=60, deadline=None)
@given(mp=mean, sp=spread, mn=mean, sn=spread, alpha=st.floats(0.1, 10))
def test_no_point_of_a_grid_is_better(mp, sp, mn, sn, alpha):
    found = boundary(mp, sp, mn, sn, alpha)
    best = min(twin(i / 500, mp, sp, mn, sn, alpha) for i in range(501))
    assert 0 <= found <= 1
    assert twin(found, mp, sp, mn, sn, alpha) <= best + 1e-9


def test_other_ends():
    assert boundary(-0.2, 0.1, -0.6, 0.1, 1, low=-1.0) == pytest.approx(-0.4)
    assert boundary(0.9, 0.1, 0.8, 0.1, 1, high=0.5) == 0.5


@pytest.mark.parametrize(
    ("normals", "low", "high"),
    [((0.6, 0.0, 0.3, 0.0), 0.3, 0.6), ((0.6, 0.0, 0.3, 0.1), 0.3, 0.61), ((0.4, 0.0, 0.4, 0.0), 0, 1)],
)
def test_normals_without_width_keep_a_boundary_between_them(normals, low, high):
    assert low <= boundary(*normals, 1.0) <= high


def test_swapped_means_of_equal_width_have_no_root_and_take_an_end():
    assert boundary(0.3, 0.1, 0.6, 0.1, 1) in (0.0, 1.0)
