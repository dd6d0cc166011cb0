"""InfoNCE, complementary and triplet losses: card vectors, plain-Python twins, gradients."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsbench.losses.contrastive import COMPLEMENTARY, complementary, info_nce, log_complement, random_negatives
from rsbench.losses.reduce import both_directions, masked_mean, not_negative, widened
from rsbench.losses.triplet import triplet

S = [[0.82, 0.35, 0.20, 0.55], [0.30, 0.74, 0.41, 0.25], [0.45, 0.38, 0.36, 0.62], [0.15, 0.28, 0.50, 0.90]]


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


def random_rows(n, seed, spread=1.0):
    draw = random.Random(seed)
    return [[draw.uniform(-spread, spread) for _ in range(n)] for _ in range(n)]


def transposed(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def softmax(row):
    exps = [math.exp(x) for x in row]
    return [e / sum(exps) for e in exps]


def naive_info_nce(logits):
    back = transposed(logits)
    return [-0.5 * math.log(softmax(logits[i])[i]) - 0.5 * math.log(softmax(back[i])[i]) for i in range(len(logits))]


def naive_complementary(logits, kind, q):
    f = {
        "log": lambda p: -math.log(1 - p + 1e-10),
        "tan": math.tan,
        "abs": lambda p: p,
        "exp": lambda p: math.exp(-(1 - p)),
        "gce": lambda p: (1 - (1 - p + 1e-10) ** q) / q,
    }[kind]
    return [sum(f(p) for j, p in enumerate(softmax(row)) if j != i) for i, row in enumerate(logits)]


def naive_triplet(s, margin, hardest):
    found = []
    for i in range(len(s)):
        rows = [max(0.0, margin + s[i][j] - s[i][i]) for j in range(len(s)) if j != i]
        columns = [max(0.0, margin + s[j][i] - s[i][i]) for j in range(len(s)) if j != i]
        found.append(max(rows) + max(columns) if hardest else sum(rows) + sum(columns))
    return found


RCL_VECTORS = [
    (0.05, "log", 1.245651),
    (0.05, "tan", 0.665536),
    (0.05, "abs", 0.489553),
    (0.05, "exp", 2.488223),
    (0.05, "gce", 0.984146),
    (0.1, "log", 0.769921),
    (0.1, "tan", 0.593823),
    (0.1, "abs", 0.529109),
]


@pytest.mark.parametrize(("tau", "kind", "value"), RCL_VECTORS)
def test_complementary_vectors_of_the_rcl_card(tau, kind, value):
    rows = complementary(both_directions(tensor(S) / tau), kind, q=0.2)
    assert float(rows.mean(-1).sum()) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("tau", "value"), [(0.05, 2.066227), (0.1, 1.289347)])
def test_info_nce_vectors_of_the_rcl_card(tau, value):
    assert 2 * float(info_nce(tensor(S) / tau).mean()) == pytest.approx(value, abs=1e-6)


def test_triplet_vectors_of_the_cards():
    assert float(triplet(tensor(S), 0.2, hardest=True).sum()) == pytest.approx(0.8, abs=1e-6)
    assert float(triplet(tensor(S), 0.2, hardest=False).sum()) == pytest.approx(1.6, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 7), seed=st.integers(0, 10_000), spread=st.floats(0.1, 8))
def test_info_nce_equals_its_plain_twin(n, seed, spread):
    rows = random_rows(n, seed, spread)
    assert info_nce(tensor(rows)).tolist() == pytest.approx(naive_info_nce(rows), abs=1e-9)


@pytest.mark.parametrize("kind", COMPLEMENTARY)
@settings(max_examples=15, deadline=None)
@given(n=st.integers(2, 7), seed=st.integers(0, 10_000), q=st.floats(0.1, 1))
def test_complementary_equals_its_plain_twin(kind, n, seed, q):
    rows = random_rows(n, seed, 3)
    assert complementary(tensor(rows), kind, q).tolist() == pytest.approx(naive_complementary(rows, kind, q), abs=1e-7)


@pytest.mark.parametrize("hardest", [True, False])
@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 7), seed=st.integers(0, 10_000), margin=st.floats(0.05, 0.6))
def test_triplet_equals_its_plain_twin(hardest, n, seed, margin):
    rows = random_rows(n, seed)
    assert triplet(tensor(rows), margin, hardest).tolist() == pytest.approx(naive_triplet(rows, margin, hardest))


@pytest.mark.parametrize("kind", COMPLEMENTARY)
def test_complementary_gradient(kind):
    x = tensor(random_rows(5, 1, 2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: complementary(both_directions(t), kind), x)


@pytest.mark.parametrize("hardest", [True, False])
def test_triplet_gradient(hardest):
    x = tensor(random_rows(5, 2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: triplet(t, 0.2, hardest), x)


def test_info_nce_gradient():
    assert torch.autograd.gradcheck(info_nce, tensor(random_rows(5, 3, 2)).requires_grad_())


def test_log_complement_stays_exact_where_a_negative_takes_all():
    logits = torch.tensor([[0.0, 40.0, 1.0]], requires_grad=True)
    log_complement(logits)[0, 1].backward()
    assert float(log_complement(logits.detach())[0, 1]) == pytest.approx(math.log1p(math.e) - 40, rel=1e-5)
    share = [1 / (1 + math.e), -1.0, math.e / (1 + math.e)]
    assert logits.grad[0].tolist() == pytest.approx(share, rel=1e-4)


def test_losses_stay_finite_at_extreme_logits():
    logits = torch.tensor([[-500.0, 500.0], [500.0, -500.0]], requires_grad=True)
    total = sum(complementary(logits, k).sum() for k in COMPLEMENTARY) + info_nce(logits).sum()
    total.backward()
    assert total.isfinite() and logits.grad.isfinite().all()


def test_one_pair_has_no_negative():
    one = torch.tensor([[0.7]])
    assert complementary(one).tolist() == triplet(one).tolist() == info_nce(one).tolist() == [0.0]
    assert triplet(one, hardest=False).tolist() == [0.0]


def test_equal_hard_negatives_pass_the_gradient_to_the_first():
    s = torch.tensor([[0.5, 0.6, 0.6], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]], requires_grad=True)
    triplet(s, 0.01).sum().backward()
    assert s.grad[0, 1] > s.grad[0, 2]  # column 2 of row 0 is hard for its own column only
    assert float(s.grad[0, 2]) == 1.0


def test_half_precision_is_widened():
    half = tensor(S).half() / 0.01
    assert info_nce(half).dtype == torch.float32
    assert widened(half).dtype == torch.float32 and widened(tensor(S)).dtype == torch.float64


def test_random_negatives_draws_so_many_per_row_and_never_the_pair_itself():
    kept = random_negatives((2, 9, 9), 4, torch.device("cpu"))
    assert kept.sum(-1).eq(4).all() and not kept.diagonal(dim1=-2, dim2=-1).any()
    assert random_negatives((3, 3), 8, torch.device("cpu")).sum(-1).eq(2).all()


def test_masked_mean_of_nothing_is_zero():
    values, mask = torch.tensor([[1.0, 3.0], [float("inf"), 5.0]]), torch.tensor([[True, True], [False, False]])
    assert masked_mean(values, mask).tolist() == [2.0, 0.0]


def test_not_negative_blocks_repeats_of_an_image_only_where_asked():
    cpu = torch.device("cpu")
    assert not_negative(3, cpu).sum() == 3
    assert not_negative(3, cpu, torch.tensor([4, 9, 4])).int().tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
