"""Self-paced weights, regulariser and the robust triplet loss: card vectors, plain twins, gradients."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsbench.losses.self_paced import divide, easy_first, hard_first, regulariser
from rsbench.losses.triplet import robust_triplet

CLOSE = {"abs": 1e-6}
SG = [[0.70, 0.20, 0.10], [0.30, 0.40, 0.60], [0.50, 0.35, 0.05]]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def random_rows(n, seed):
    draw = random.Random(seed)
    return [[draw.uniform(-1, 1) for _ in range(n)] for _ in range(n)]


def naive_triplet(s, sigma, adaptive, same=None):
    n, found = len(s), []
    for i in range(n):
        negatives = [j for j in range(n) if j != i and not (same and same[i] == same[j])]
        total = 0.0
        for hardest in (
            max((s[i][j] for j in negatives), default=None),
            max((s[j][i] for j in negatives), default=None),
        ):
            if hardest is not None:
                margin = sigma * (1 + max(0.0, hardest - s[i][i])) if adaptive else sigma
                total += max(0.0, margin - s[i][i] + hardest)
        found.append(total)
    return found


@pytest.mark.parametrize(
    ("gamma", "loss", "weight", "constant"),
    [
        (5, 0, 1, 0),
        (5, 1, 0.951057, 0.032575),
        (5, 2.5, 0.707107, 0.483024),
        (5, 4, 0.309017, 1.791239),
        (5, 5, 0, 0),
        (5, 7, 0, 0),
        (18, 5, 0.906308, 0.311310),
        (18, 9, 0.707107, 1.738886),
        (18, 12, 0.5, 3.923920),
        (18, 17.9, 0.008727, 11.302515),
        (18, 18, 0, 0),
    ],
)
def test_vector_1_weight_and_regulariser(gamma, loss, weight, constant):
    x, g = tensor([float(loss)]), tensor(float(gamma))
    w = easy_first(x, g)
    assert w.tolist() == pytest.approx([weight], **CLOSE)
    assert regulariser(w, x, g).tolist() == pytest.approx([constant], **CLOSE)


@given(gamma=st.floats(0.5, 30), share=st.floats(0.001, 0.999))
def test_the_weight_minimises_the_regularised_loss(gamma, share):
    loss, g = tensor([share * gamma]), tensor(gamma)
    w = easy_first(loss, g)
    least = 2 * gamma / math.pi * math.sin(math.pi * share / 2)
    assert (w * loss + regulariser(w, loss, g)).item() == pytest.approx(least, rel=1e-9)
    grid = torch.linspace(0, 1, 401, dtype=torch.float64)
    assert float((grid * loss + regulariser(grid, loss, g)).min()) >= least - 1e-9


@given(gamma=st.floats(0.5, 30), loss=st.floats(0, 40))
def test_the_reversed_weight_is_the_sine(gamma, loss):
    expected = math.sin(math.pi / 2 * loss / gamma) if loss < gamma else 0.0
    assert hard_first(tensor([loss]), tensor(gamma)).item() == pytest.approx(expected, abs=1e-12)


def test_weights_are_detached_and_stay_in_range_in_fp32():
    gamma = torch.tensor(5.0)
    below = torch.nextafter(gamma, torch.tensor(0.0))[None].requires_grad_()
    for fn in (easy_first, hard_first):
        w = fn(below, gamma)
        assert not w.requires_grad and 0 <= float(w) <= 1
        assert regulariser(w, below, gamma).isfinite().all()
    assert regulariser(torch.ones(1), torch.zeros(1), gamma).tolist() == [0]


def test_sets_are_disjoint_and_take_their_lower_border():
    loss = tensor([0, 4.999, 5, 17.999, 18, 40])
    assert divide(loss, 5, 18).tolist() == [0, 0, 1, 1, 2, 2]
    assert divide(loss, 5, 5).tolist() == [0, 0, 2, 2, 2, 2]
    assert divide(loss, 5, 18).dtype == torch.int8


def test_vector_3_robust_triplet():
    assert robust_triplet(tensor(SG), 0.6).tolist() == pytest.approx([0.50, 1.47, 2.80], **CLOSE)
    fixed = robust_triplet(tensor(SG), 0.6, adaptive=False)
    assert fixed.tolist() == pytest.approx([0.50, 1.35, 2.20], **CLOSE)
    assert float(fixed.mean()) == pytest.approx(1.35, **CLOSE)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 7),
    seed=st.integers(0, 10_000),
    sigma=st.floats(0, 1.5),
    adaptive=st.booleans(),
    images=st.none() | st.lists(st.integers(0, 3), min_size=7, max_size=7),
)
def test_robust_triplet_equals_its_plain_twin(n, seed, sigma, adaptive, images):
    s, same = random_rows(n, seed), images and images[:n]
    found = robust_triplet(tensor(s), sigma, adaptive, same_image=None if same is None else torch.tensor(same))
    assert found.tolist() == pytest.approx(naive_triplet(s, sigma, adaptive, same), abs=1e-12)


@pytest.mark.parametrize("adaptive", [True, False])
def test_robust_triplet_gradient(adaptive):
    x = tensor(random_rows(5, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: robust_triplet(s, 0.6, adaptive), x)


def test_an_adaptive_margin_steepens_the_slope_unless_detached():
    """Pair 3 is beaten by both negatives: slope -(1 + sigma) per direction, -1 with a detached margin."""
    slopes = []
    for detach in (False, True):
        x = tensor(SG).requires_grad_()
        robust_triplet(x, 0.6, detach_margin=detach)[2].backward()
        slopes.append(float(x.grad[2, 2]))
    assert slopes == pytest.approx([-3.2, -2.0])


@pytest.mark.parametrize("same", [None, torch.zeros(3, dtype=torch.long)])
def test_rows_without_negatives_count_zero_and_have_finite_gradients(same):
    x = tensor(SG if same is not None else [[0.3]]).requires_grad_()
    loss = robust_triplet(x, 0.6, same_image=same)
    loss.sum().backward()
    assert loss.tolist() == [0.0] * len(x) and x.grad.tolist() == torch.zeros_like(x).tolist()
