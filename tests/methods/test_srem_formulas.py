"""SREM: the card's vectors, a plain-Python twin of every part, gradients, variants and options."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsbench.losses.biased import READINGS, biased_complementary, selection, spread
from rsbench.losses.energy import energy, energy_bound, normalised_entropy
from rsbench.methods.base import AMBIGUOUS, CLEAN, NOISY
from rsbench.methods.cards.srem import CARD, SremParams
from rsbench.methods.srem import clean_rows, complementary_rows, objective, read_rows

F = [[3.0, -1.0, -2.5, 0.5], [-1.5, 2.2, -0.4, -2.0], [0.3, -0.6, -0.8, 1.4], [-3.0, -1.8, 0.2, 4.0]]
CARD_SETTING = SremParams(lambda1=0.5, lambda2=0.5)
CLOSE = {"abs": 1e-6}


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


def random_logits(n, seed, own=1.5):
    draw = random.Random(seed)
    return [[draw.gauss(own if i == j else 0, 1.5) for j in range(n)] for i in range(n)]


def transposed(rows):
    return [list(column) for column in zip(*rows, strict=True)]


class Twin:
    """One direction of SREM in plain floats, straight from the card."""

    def __init__(self, g, p, same=None):
        self.g, self.p, self.n = g, p, len(g)
        self.negatives = [
            [j for j in range(self.n) if j != i and not (same and same[i] == same[j])] for i in range(self.n)
        ]
        self.s = [[1 / (1 + math.exp(-x)) for x in row] for row in g]
        self.prob = [[math.exp(x) / sum(math.exp(y) for y in row) for x in row] for row in g]
        self.e = [-math.log(sum(math.exp(x) for x in row)) for row in g]
        self.h = [-sum(q * math.log(q) for q in row) / math.log(self.n) for row in self.prob]
        self.phi = [max(js, key=lambda j, i=i: g[i][j]) if js else None for i, js in enumerate(self.negatives)]
        self.top = [0.0 if j is None else self.s[i][j] for i, j in enumerate(self.phi)]
        self.clean = [self.e[i] < p.tau and (self.phi[i] is None or g[i][i] > g[i][self.phi[i]]) for i in range(self.n)]
        violated = [j is not None and p.alpha - self.s[i][i] + self.s[i][j] > 0 for i, j in enumerate(self.phi)]
        self.w = [1 - h if v else 1.0 for h, v in zip(self.h, violated, strict=True)]

    def bound(self):
        clean = [max(0.0, e - self.p.m_clean) ** 2 for e, c in zip(self.e, self.clean, strict=True) if c]
        noisy = [max(0.0, self.p.m_noisy - e) ** 2 for e, c in zip(self.e, self.clean, strict=True) if not c]
        return sum(sum(x) / len(x) for x in (clean, noisy) if x)

    def hinge(self, w, chosen):
        found = [
            max(0.0, self.p.alpha - w[i] * self.s[i][i] + self.top[i]) if self.phi[i] is not None else 0.0
            for i in range(self.n)
            if chosen[i]
        ]
        return sum(found) / len(found) if found else 0.0

    def q(self, used):
        rows = []
        for i in range(self.n):
            x = {j: math.exp(self.p.beta * (self.s[i][j] - self.p.b)) for j in self.negatives[i]}
            pbar = {j: v / (1 + sum(x.values())) for j, v in x.items()}
            if used[i] and self.phi[i] in pbar:
                del pbar[self.phi[i]]
            total = sum(math.exp(v) for v in pbar.values())
            rows.append([math.exp(pbar[j]) / total if j in pbar else 0.0 for j in range(self.n)])
        return rows

    def complementary(self, used):
        q, n, reading = self.q(used), self.n, self.p.cmbcl
        rows = []
        for i in range(n):
            js, count = self.negatives[i], max(1, len(self.negatives[i]))
            if reading == "weight_softmax":
                rows.append(sum(q[i][j] * -math.log(1 - self.prob[i][j]) for j in js))
            elif reading == "uniform":
                rows.append(sum(-math.log(1 - self.prob[i][j]) for j in js) / count)
            elif reading == "literal":
                mixed = [sum(q[k][i] * self.s[k][j] for k in range(n)) for j in range(n)]
                rows.append(sum(-math.log(1 - min(mixed[j], 1 - 1e-6)) for j in js) / count)
            else:
                mixed = [sum(self.prob[i][k] * q[k][j] for k in range(n)) for j in range(n)]
                rows.append(sum(-math.log(max(mixed[j], 1e-12)) for j in js) / count)
        return sum(rows) / n


def twin_total(f, p, warmup=False, same=None):
    one, two = Twin(f, p, same), Twin(transposed(f), p, same)
    everyone, none = [True] * len(f), [False] * len(f)
    if p.clean_set == "intersection":
        one.clean = two.clean = [a and b for a, b in zip(one.clean, two.clean, strict=True)]
    if warmup and p.cmbcl != "none":
        return one.complementary(none) + two.complementary(none)
    plain = warmup or not p.filtration
    chosen = [everyone, everyone] if plain else [one.clean, two.clean]
    w = [two.w, one.w] if p.swapped_weight and not warmup else [[1.0] * len(f)] * 2
    total = 0.5 * (one.hinge(w[0], chosen[0]) + two.hinge(w[1], chosen[1]))
    if not plain:
        total += p.lambda1 * (one.bound() + two.bound())
    if p.cmbcl != "none":
        total += p.lambda2 * (one.complementary(chosen[0]) + two.complementary(chosen[1]))
    return total


# The card's vectors


def test_vector_1_energy_clean_sets_and_bounded_loss():
    rows = read_rows(tensor(F))
    assert rows.energy[0].tolist() == pytest.approx([-3.099381, -2.307951, -1.856798, -4.025970], **CLOSE)
    assert rows.energy[1].tolist() == pytest.approx([-3.077695, -2.313229, -0.885063, -4.101608], **CLOSE)
    clean = clean_rows(rows, CARD_SETTING)
    assert clean.int().tolist() == [[1, 1, 0, 1], [1, 1, 0, 1]]
    assert float(objective(tensor(F), CARD_SETTING).terms["energy"]) == pytest.approx(4.672413 + 2.015284, abs=2e-6)
    bound = energy_bound(rows.energy, clean, -4.0, 0.0)
    each = [float(b[c].mean() + b[~c].mean()) for b, c in zip(bound, clean, strict=True)]
    assert each == pytest.approx([4.672413, 2.015284], **CLOSE)


def test_vector_2_entropy_phi_and_weights():
    rows, found = read_rows(tensor(F)), objective(tensor(F), CARD_SETTING).records
    assert rows.entropy[0].tolist() == pytest.approx([0.268242, 0.302933, 0.731797, 0.095311], **CLOSE)
    assert rows.entropy[1].tolist() == pytest.approx([0.220444, 0.322560, 0.813636, 0.277702], **CLOSE)
    assert rows.phi.tolist() == [[3, 2, 3, 2], [2, 2, 3, 2]]
    violation = 0.2 - rows.positive + rows.hardest
    assert violation[1].tolist() == pytest.approx([-0.178132, -0.345906, 0.439808, 0.020170], **CLOSE)
    assert found["weight_i2t"].tolist() == pytest.approx([1, 1, 0.268203, 1], **CLOSE)
    assert found["weight_t2i"].tolist() == pytest.approx([1, 1, 0.186364, 0.722298], **CLOSE)


def test_vector_3_the_weights_are_swapped():
    swapped = float(objective(tensor(F), CARD_SETTING).terms["hinge"])
    assert swapped == pytest.approx(0.013509 + 0.006723, abs=1.5e-6)
    one, two = Twin(F, CARD_SETTING), Twin(transposed(F), CARD_SETTING)
    assert one.hinge(one.w, one.clean) + two.hinge(two.w, two.clean) == pytest.approx(0.097626, **CLOSE)
    only = replace(CARD_SETTING, lambda1=0.0, lambda2=0.0)
    assert float(objective(tensor(F), only).total) == pytest.approx(0.5 * (0.013509 + 0.006723), **CLOSE)


def test_vector_4_selection_with_and_without_exclusion():
    rows = read_rows(tensor(F))
    chance = selection(rows.scores, rows.blocked, 10.0, 0.5)[0]
    assert chance[0].tolist() == pytest.approx([0, 0.021965, 0.003186, 0.753433], **CLOSE)
    assert chance[2].tolist() == pytest.approx([0.088206, 0.009764, 0, 0.860132], **CLOSE)
    assert spread(chance, rows.blocked)[0].tolist() == pytest.approx([0, 0.246334, 0.241751, 0.511914], **CLOSE)
    used = torch.zeros(4, 4, dtype=torch.bool)
    used[[0, 1, 3], [3, 2, 2]] = True
    expected = [
        [0, 0.504695, 0.495305, 0],
        [0.503405, 0, 0, 0.496595],
        [0.244589, 0.226136, 0, 0.529274],
        [0.498416, 0.501584, 0, 0],
    ]
    for row, wanted in zip(spread(chance, rows.blocked | used).tolist(), expected, strict=True):
        assert row == pytest.approx(wanted, **CLOSE)


@pytest.mark.parametrize(
    ("reading", "warmup", "excluded"),
    [
        ("literal", (0.713899, 0.713988), (1.012403, 0.889158)),
        ("weight_softmax", (0.175762, 0.133124), (0.159846, 0.116514)),
        ("uniform", (0.129843, 0.112098), (0.129843, 0.112098)),
    ],
)
def test_vector_5_complementary_loss(reading, warmup, excluded):
    p, rows = replace(CARD_SETTING, cmbcl=reading), read_rows(tensor(F))
    clean = clean_rows(rows, p)
    for used, expected in ((torch.zeros_like(clean), warmup), (clean, excluded)):
        assert complementary_rows(rows, used, p).mean(-1).tolist() == pytest.approx(expected, **CLOSE)
    assert float(objective(tensor(F), p, warmup=True).total) == pytest.approx(sum(warmup), abs=2e-6)


def test_vector_5_total():
    assert float(objective(tensor(F), CARD_SETTING).total) == pytest.approx(3.492145, **CLOSE)
    assert float(objective(tensor(F), replace(CARD_SETTING, cmbcl="literal")).total) == pytest.approx(4.304746, **CLOSE)


def test_vector_6_gradient():
    x = tensor(F).requires_grad_()
    objective(x, CARD_SETTING).total.backward()
    assert x.grad[0].tolist() == pytest.approx([-0.55817, -0.022104, 0.027804, -0.020591], rel=5e-5)
    assert x.grad[2].tolist() == pytest.approx([0.35406, 0.12036, 0.27232, 1.2373], rel=5e-5)


# Twins and gradients

SETTINGS = {
    **{f"variant {name}": SremParams(**changes) for name, changes in CARD.variants.items()},
    **{f"reading {name}": SremParams(cmbcl=name) for name in READINGS},
    "intersection": SremParams(clean_set="intersection"),
    "other numbers": SremParams(tau=-1.0, m_clean=-3, m_noisy=-0.5, alpha=0.4, beta=3, b=0.2, lambda1=0.7, lambda2=0.3),
}


@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=12, deadline=None)
@given(n=st.integers(2, 7), seed=st.integers(0, 10_000))
def test_objective_equals_its_plain_twin(name, warmup, n, seed):
    f = random_logits(n, seed)
    total = float(objective(tensor(f), SETTINGS[name], warmup).total)
    assert total == pytest.approx(twin_total(f, SETTINGS[name], warmup), rel=1e-9, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_same_image_entries_are_no_negatives_where_masked(seed, images):
    f = random_logits(6, seed)
    for reading in READINGS:
        for warmup in (False, True):
            p = SremParams(cmbcl=reading, tau=-1.5)
            total = float(objective(tensor(f), p, warmup, torch.tensor(images)).total)
            assert total == pytest.approx(twin_total(f, p, warmup, images), rel=1e-9, abs=1e-9)


def test_objective_gradient_with_constant_weights_and_selection():
    """Autograd against finite differences, with w and Q frozen at the point as the paper treats them."""
    f = random_logits(5, 11)
    frozen = read_rows(tensor(f))
    p = SremParams(tau=-1.0, lambda1=0.5)
    clean = clean_rows(frozen, p)
    used = torch.zeros_like(frozen.logits, dtype=torch.bool).scatter(-1, frozen.phi[..., None], clean[..., None])
    q = spread(selection(frozen.scores, frozen.blocked, p.beta, p.b), frozen.blocked | used)
    found = objective(tensor(f), p).records
    w = torch.stack((found["weight_t2i"], found["weight_i2t"]))

    def total(x):
        rows = read_rows(x)
        hinge = (p.alpha - w * rows.positive + rows.hardest).relu()
        bound = energy_bound(rows.energy, clean, p.m_clean, p.m_noisy)
        biased = biased_complementary(p.cmbcl, rows.logits, rows.scores, q, ~rows.blocked)
        parts = [
            0.5 * h[c].mean() + p.lambda1 * (b[c].mean() + b[~c].mean())
            for h, b, c in zip(hinge, bound, clean, strict=True)
        ]
        return sum(parts) + p.lambda2 * biased.mean(-1).sum()

    assert 0 < int(clean[0].sum()) < 5 and 0 < int(clean[1].sum()) < 5
    a, b = tensor(f).requires_grad_(), tensor(f).requires_grad_()
    assert torch.autograd.gradcheck(total, a)
    total(a).backward()
    objective(b, p).total.backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-12)


@pytest.mark.parametrize("reading", READINGS)
def test_complementary_gradient(reading):
    x = tensor(random_logits(5, 4))
    q = spread(selection(x.sigmoid()[None], torch.eye(5, dtype=torch.bool), 10.0, 0.5), torch.eye(5, dtype=torch.bool))
    negatives = ~torch.eye(5, dtype=torch.bool)
    assert torch.autograd.gradcheck(
        lambda t: biased_complementary(reading, t[None], t[None].sigmoid(), q, negatives), x.requires_grad_()
    )


def test_energy_and_entropy_gradients():
    x = tensor(random_logits(5, 5)).requires_grad_()
    assert torch.autograd.gradcheck(energy, x)
    assert torch.autograd.gradcheck(normalised_entropy, x)


def test_weights_and_selection_carry_no_gradient():
    rows = read_rows(tensor(F).requires_grad_())
    assert not selection(rows.scores, rows.blocked, 10.0, 0.5).requires_grad
    assert not objective(tensor(F).requires_grad_(), CARD_SETTING).records["weight_i2t"].requires_grad


@pytest.mark.parametrize("variant", [v for v in CARD.variants if v != "full"])
def test_each_variant_differs_from_full(variant):
    f = tensor(random_logits(8, 21)).requires_grad_()
    grads = []
    for changes in ({}, CARD.variants[variant]):
        f.grad = None
        objective(f, SremParams(tau=-1.5, **changes)).total.backward()
        grads.append(f.grad.clone())
    assert not torch.allclose(*grads)


# Clean sets, division, scores


def test_division_counts_the_directions_that_call_a_pair_clean():
    f = [[4.0, 0.0, 0.0], [0.0, 4.0, 5.0], [0.0, 0.0, 1.0]]
    loss = objective(tensor(f), SremParams(tau=-1.0))
    assert loss.division.tolist() == [CLEAN, AMBIGUOUS, AMBIGUOUS]
    both = objective(tensor(f), SremParams(tau=-1.0, clean_set="intersection"))
    assert both.division.tolist() == [CLEAN, NOISY, NOISY]
    assert objective(tensor(f), SremParams(), warmup=True).division is None
    assert objective(tensor(f), SremParams(filtration=False)).division is None


def test_clean_score_is_minus_the_mean_energy():
    rows = read_rows(tensor(F))
    assert torch.equal(objective(tensor(F), CARD_SETTING).clean_score, -(rows.energy[0] + rows.energy[1]) / 2)


def test_pull_is_the_gradient_on_the_diagonal():
    """Noise-gradient ratio: the record equals |dL_w/dS_ii| times the size of the clean set."""
    p = SremParams(tau=-1.0, lambda1=0, cmbcl="none")
    x = tensor(random_logits(6, 8)).requires_grad_()
    loss = objective(x, p)
    loss.total.backward()
    s = x.detach().sigmoid().diagonal()
    sizes = [loss.records[f"clean_{way}"].sum() for way in ("i2t", "t2i")]
    pulls = [loss.records[f"pull_{way}"] for way in ("i2t", "t2i")]
    expected = -sum(0.5 * pull / n for pull, n in zip(pulls, sizes, strict=True)) * s * (1 - s)
    assert float(expected.abs().sum()) > 0
    own = x.grad.diagonal()
    assert torch.allclose(own, expected, atol=1e-12)


def test_an_argmax_tie_is_clean_only_if_the_pair_comes_first():
    f = [[3.0, 3.0, 0.0], [3.0, 3.0, 0.0], [0.0, 0.0, 3.0]]
    assert read_rows(tensor(f)).first.int().tolist() == [[1, 0, 1], [1, 0, 1]]


@pytest.mark.parametrize("p", [SremParams(tau=-100.0), SremParams(tau=100.0)])
def test_empty_sets_contribute_nothing(p):
    x = tensor(random_logits(4, 3, own=6)).requires_grad_()
    loss = objective(x, p)
    loss.total.backward()
    assert loss.total.isfinite() and x.grad.isfinite().all()
    if p.tau < 0:
        assert float(loss.terms["hinge"]) == 0


@pytest.mark.parametrize("reading", [*READINGS, "none"])
@pytest.mark.parametrize("warmup", [False, True])
def test_one_or_two_pairs_and_rows_without_negatives_stay_finite(reading, warmup):
    p = SremParams(cmbcl=reading, tau=0.0)
    for x, images in ((torch.randn(1, 1), None), (torch.randn(2, 2), None), (torch.randn(3, 3), torch.zeros(3))):
        x = (x + 3 * torch.eye(len(x))).requires_grad_()
        loss = objective(x, p, warmup, images)
        loss.total.backward()
        assert loss.total.isfinite() and x.grad.isfinite().all() and loss.pair_loss.isfinite().all()


def test_half_precision_logits_stay_finite():
    f = (tensor(F) * 100 + 600).half()
    assert energy(f).isfinite().all() and energy(f).dtype == torch.float32
    loss = objective(f.requires_grad_(), SremParams())
    assert loss.total.isfinite() and loss.total.dtype == torch.float32


def test_extreme_logits_stay_finite():
    x = (torch.randn(6, 6) * 200).requires_grad_()
    for reading in READINGS:
        loss = objective(x, SremParams(cmbcl=reading))
        x.grad = None
        loss.total.backward()
        assert loss.total.isfinite() and x.grad.isfinite().all()
