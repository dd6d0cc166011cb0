"""RRSITR: the card's vectors, a plain-Python twin, gradients, variants, options, warnings."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsbench.backbones.base import CONTENT, PAD, SPECIAL, Features
from rsbench.errors import CapabilityError, UsageError
from rsbench.matchers.cosine import cosine
from rsbench.matchers.local import local_similarity
from rsbench.methods.base import AMBIGUOUS, CLEAN, NOISY, Encoded, Setup
from rsbench.methods.build import check_needs, resolve_params
from rsbench.methods.cards.rrsitr import CARD, RrsitrParams
from rsbench.methods.probe import BATCH, Probe, ProbeBackbone, make_batch
from rsbench.methods.rrsitr import Rrsitr, chance_level, objective
from rsbench.training.recipe import COMMON_FULL, Recipe

SG = [[0.70, 0.20, 0.10], [0.30, 0.40, 0.60], [0.50, 0.35, 0.05]]
SL = [[2.00, 1.95, 1.90], [1.98, 2.10, 2.00], [2.30, 1.90, 1.90]]
CARD_SETTING = RrsitrParams(tau=0.05)
CLOSE = {"abs": 1e-6}


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


def random_case(n, seed):
    """Similarities whose losses fall into all three sets for n from about 6 on."""
    draw = random.Random(seed)
    own = [draw.uniform(-0.4, 0.8) for _ in range(n)]
    sg = [[draw.uniform(-0.2, 0.4) + (own[i] if i == j else 0) for j in range(n)] for i in range(n)]
    sl = [[2 + 0.5 * draw.random() + (own[i] if i == j else 0) for j in range(n)] for i in range(n)]
    return sg, sl


def column(s, j):
    return [row[j] for row in s]


def cross_entropies(s, tau):
    """-log softmax of the own entry, row plus column, in plain floats."""
    found = []
    for i in range(len(s)):
        total = 0.0
        for values in (s[i], column(s, i)):
            top = max(values)
            total += math.log(sum(math.exp((x - top) / tau) for x in values)) - (s[i][i] - top) / tau
        found.append(total)
    return found


def hinges(s, p, same=None):
    found = []
    for i in range(len(s)):
        js = [j for j in range(len(s)) if j != i and not (same and same[i] == same[j])]
        total = 0.0
        for values in (s[i], column(s, i)):
            if js:
                hardest = max(values[j] for j in js)
                margin = p.sigma * (1 + max(0.0, hardest - s[i][i])) if p.adaptive_margin else p.sigma
                total += max(0.0, margin - s[i][i] + hardest)
        found.append(total)
    return found


def twin(sg, sl, p, same=None):
    """The whole loss in plain floats; not for random weights."""
    n = len(sg)
    losses = cross_entropies(sg, p.tau)
    if p.local:
        losses = [a + b for a, b in zip(losses, cross_entropies(sl, p.tau), strict=True)]
    if p.pace == "off":
        noisy, sums = [False] * n, [sum(losses) / n, 0.0]
    else:
        upper = p.gamma2 if p.ambiguous else p.gamma1
        noisy, sums = [x >= upper for x in losses], [0.0, 0.0]
        for x in losses:
            if x >= upper:
                continue
            k, gamma = (0, p.gamma1) if x < p.gamma1 else (1, p.gamma2)
            if p.pace == "easy_first":
                w = math.cos(math.pi / 2 * x / gamma)
                sums[k] += (w * x - 2 / math.pi * gamma * (w * math.acos(w) - math.sqrt(1 - w * w))) / n
            else:
                w = 1.0 if p.pace == "flat" else math.sin(math.pi / 2 * x / gamma)
                sums[k] += w * x / n
    counted = [h for h, bad in zip(hinges(sg, p, same), noisy, strict=True) if bad or p.rtl_scope == "all"]
    return sums[0] + p.lambda1 * sums[1] + p.lambda2 * sum(counted) / n


def total(sg, sl, p, same=None):
    return float(objective(tensor(sg), tensor(sl) if p.local else None, p, same).total)


# The card's vectors


def test_vector_4_full_loss():
    loss = objective(tensor(SG), tensor(SL), CARD_SETTING)
    records = {k: v.tolist() for k, v in loss.records.items()}
    assert records["global"] == pytest.approx([0.018531, 4.347144, 20.048767], **CLOSE)
    assert records["local"] == pytest.approx([6.411738, 0.269684, 10.240215], **CLOSE)
    assert loss.pair_loss.tolist() == pytest.approx([6.430269, 4.616828, 30.288982], **CLOSE)
    assert loss.division.tolist() == [AMBIGUOUS, CLEAN, NOISY]
    assert records["weight"] == pytest.approx([0.846645, 0.120087, 0], **CLOSE)
    assert records["triplet"] == pytest.approx([0.50, 1.47, 2.80], **CLOSE)
    terms = {k: float(v) for k, v in loss.terms.items()}
    assert terms["LS1"] == pytest.approx(1.053355, **CLOSE)
    assert terms["LS2"] == pytest.approx(2.032692, **CLOSE)
    assert terms["Lsoft"] == pytest.approx(0.933333, **CLOSE)
    assert [terms[f"share_{s}"] for s in ("clean", "ambiguous", "noisy")] == pytest.approx([1 / 3] * 3)
    assert loss.total.item() == pytest.approx(3.519508, **CLOSE)
    assert torch.equal(loss.clean_score, -loss.pair_loss)


def test_vector_4_triplet_over_all_pairs():
    p = dataclasses.replace(CARD_SETTING, rtl_scope="all")
    assert total(SG, SL, p) == pytest.approx(4.110508, **CLOSE)


def test_vector_4_the_regulariser_has_no_gradient():
    x, y = tensor(SG).requires_grad_(), tensor(SG).requires_grad_()
    found = objective(x, tensor(SL), dataclasses.replace(CARD_SETTING, lambda2=0.0))
    found.total.backward()
    pair = -sum((y / 0.05).log_softmax(d).diagonal() for d in (0, 1)) + found.records["local"]
    plain = (found.records["weight"] * pair * tensor([0.8, 1, 0])).mean()
    plain.backward()
    assert plain.item() + 0.9 * 0.933333 == pytest.approx(2.476582, **CLOSE)
    assert torch.allclose(x.grad, y.grad, atol=1e-12)


def test_vector_4_fused_similarity():
    fused = 0.9 * tensor(SG) + 0.1 * tensor(SL)
    assert fused.flatten().tolist() == pytest.approx([0.83, 0.375, 0.28, 0.468, 0.57, 0.74, 0.68, 0.505, 0.235])


def test_the_paper_recipe_is_the_published_one():
    assert Recipe(**CARD.paper_recipe) == COMMON_FULL
    assert RrsitrParams().tau == pytest.approx(math.exp(-2.996), abs=1e-7)
    assert {"tau": RrsitrParams().tau} in [dict(s) for s in CARD.searched] and len(CARD.searched) == 6


# Twins, variants, options

SETTINGS = {
    **{f"variant {n}": RrsitrParams(**v) for n, v in CARD.variants.items() if n != "spl_random"},
    "all": RrsitrParams(rtl_scope="all"),
    "margin_detach": RrsitrParams(margin_detach=True),
    "numbers": RrsitrParams(
        gamma1=3, gamma2=9, lambda1=0.3, lambda2=0.7, sigma=0.2, tau=0.1, rtl_scope="all", ambiguous=False
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=12, deadline=None)
@given(n=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_objective_equals_its_plain_twin(name, n, seed):
    sg, sl = random_case(n, seed)
    assert total(sg, sl, SETTINGS[name]) == pytest.approx(twin(sg, sl, SETTINGS[name]), rel=1e-9, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_same_image_entries_are_no_hardest_negatives_where_excluded(seed, images):
    sg, sl = random_case(6, seed)
    found = total(sg, sl, RrsitrParams(), torch.tensor(images))
    assert found == pytest.approx(twin(sg, sl, RrsitrParams(), images), rel=1e-9, abs=1e-9)


def test_the_random_case_has_all_three_sets():
    sg, sl = map(tensor, random_case(12, 1))
    assert set(objective(sg, sl, RrsitrParams()).division.tolist()) == {CLEAN, AMBIGUOUS, NOISY}


@pytest.mark.parametrize("name", [v for v in CARD.variants if v != "full"])
def test_each_variant_differs_from_full(name):
    """And equals its own formula, by the twin above (random weights: below)."""
    sg, sl = map(tensor, random_case(12, 1))
    grads = []
    for changes in ({}, CARD.variants[name]):
        p, x = RrsitrParams(**changes), sg.clone().requires_grad_()
        objective(x, sl if p.local else None, p).total.backward()
        grads.append(x.grad)
    assert not torch.allclose(*grads)


def test_random_weights_are_fresh_within_the_sets():
    sg, sl = map(tensor, random_case(12, 1))
    p = RrsitrParams(pace="random")
    one, two = objective(sg, sl, p), objective(sg, sl, p)
    kept = one.division != NOISY
    assert not torch.equal(one.records["weight"], two.records["weight"])
    for loss in (one, two):
        w = loss.records["weight"]
        assert bool((w[kept] > 0).all()) and bool((w < 1).all()) and w[~kept].tolist() == [0] * int((~kept).sum())
        factor = torch.where(loss.division == CLEAN, 1.0, tensor(p.lambda1))
        expected = (w * loss.pair_loss * factor).mean() + p.lambda2 * loss.records["triplet"].where(~kept, 0.0).mean()
        assert loss.total.item() == pytest.approx(float(expected), abs=1e-12)


def test_objective_gradient_with_constant_weights_and_sets():
    """Autograd against finite differences, with w and the sets frozen at the point as the paper treats them."""
    sg, sl = map(tensor, random_case(8, 7))
    p = RrsitrParams(tau=0.1)
    frozen = objective(sg, sl, p)
    w, sets = frozen.records["weight"], frozen.division
    assert len(set(sets.tolist())) == 3

    def plain(x, y):
        loss = sum(-(s / p.tau).log_softmax(d).diagonal() for s in (x, y) for d in (0, 1))
        out = x - 1e9 * torch.eye(8, dtype=torch.float64)
        soft = 0.0
        for top in (out.amax(1), out.amax(0)):
            excess = top - x.diagonal()
            soft = soft + (p.sigma * (1 + excess.relu()) + excess).relu()
        factor = torch.where(sets == CLEAN, 1.0, tensor(p.lambda1))
        return (w * factor * loss).mean() + p.lambda2 * soft.where(sets == NOISY, 0.0).mean()

    a, b = sg.clone().requires_grad_(), sl.clone().requires_grad_()
    assert torch.autograd.gradcheck(plain, (a, b))
    plain(a, b).backward()
    c, d = sg.clone().requires_grad_(), sl.clone().requires_grad_()
    objective(c, d, p).total.backward()
    assert torch.allclose(a.grad, c.grad, atol=1e-12) and torch.allclose(b.grad, d.grad, atol=1e-12)


def test_options_change_gradient_or_loss():
    sg, sl = map(tensor, random_case(12, 1))
    x, y = sg.clone().requires_grad_(), sg.clone().requires_grad_()
    one = objective(x, sl, RrsitrParams())
    two = objective(y, sl, RrsitrParams(margin_detach=True))
    one.total.backward()
    two.total.backward()
    assert one.total.item() == two.total.item() and not torch.allclose(x.grad, y.grad)
    images = torch.arange(12) % 3
    assert float(objective(sg, sl, RrsitrParams(), images).total) != one.total.item()


def test_everything_per_pair_is_detached():
    loss = objective(tensor(SG).requires_grad_(), tensor(SL), CARD_SETTING)
    assert not any(v.requires_grad for v in (*loss.records.values(), *loss.terms.values(), loss.pair_loss))


# Edges


@pytest.mark.parametrize("name", CARD.variants)
def test_one_pair_has_no_triplet_loss(name):
    p, x = RrsitrParams(**CARD.variants[name]), tensor([[0.3]]).requires_grad_()
    loss = objective(x, tensor([[2.0]]) if p.local else None, p)
    loss.total.backward()
    assert loss.total.item() == pytest.approx(0, abs=1e-12) and x.grad.tolist() == [[0]]
    assert loss.records["triplet"].tolist() == [0]


@pytest.mark.parametrize(("gamma", "only"), [((1e-6, 1e-6), NOISY), ((1e6, 1e6), CLEAN)])
def test_empty_sets_contribute_nothing(gamma, only):
    sg, sl = random_case(6, 3)
    p = RrsitrParams(gamma1=gamma[0], gamma2=gamma[1])
    x = tensor(sg).requires_grad_()
    loss = objective(x, tensor(sl), p)
    loss.total.backward()
    assert set(loss.division.tolist()) == {only} and x.grad.isfinite().all()
    assert loss.total.item() == pytest.approx(twin(sg, sl, p), rel=1e-9)


def test_extreme_similarities_stay_finite_in_fp32():
    x = (10 * torch.randn(6, 6)).requires_grad_()
    loss = objective(x, x * 3, RrsitrParams(tau=0.01))
    loss.total.backward()
    assert loss.total.isfinite() and x.grad.isfinite().all()


@pytest.mark.parametrize("changes", [{"gamma1": 20.0}, {"alpha": 1.5}, {"tau": 0.0}, {"gamma1": 0.0}, {"sigma": -1.0}])
def test_values_out_of_range_are_refused(changes):
    with pytest.raises(UsageError, match="--set method"):
        RrsitrParams(**changes)


# The method


def test_only_local_variants_need_tokens():
    for name in CARD.variants:
        values = resolve_params(CARD, name, {})
        assert CARD.needs_of(values) == (frozenset() if name in ("no_local", "baseline") else {"tokens"})
    with pytest.raises(CapabilityError, match="tokens"):
        check_needs(CARD, resolve_params(CARD, "full", {}), "plain", "heads", frozenset())


def built(batch_size=100, **changes):
    return Rrsitr(ProbeBackbone(), RrsitrParams(**changes), Setup(10, 0, batch_size, 3))


def test_variants_without_local_part_work_on_pooled_vectors_alone():
    method, batch = built(local=False), make_batch(torch.arange(BATCH), "train")
    image, text = Features(torch.randn(BATCH, 4)), Features(torch.randn(BATCH, 4))
    assert method.loss(Encoded(image, text), batch).total.isfinite()
    assert torch.equal(method.similarity(image, text), cosine(image, text))


def test_inference_fuses_both_similarities():
    method, batch = built(alpha=0.7), make_batch(torch.arange(BATCH), "train")
    encoded = method.encode(batch)
    expected = 0.7 * cosine(encoded.image, encoded.text) + 0.3 * local_similarity(encoded.image, encoded.text)
    assert torch.allclose(method.similarity(encoded.image, encoded.text), expected)


def test_the_loss_reads_the_similarities_of_the_features():
    for p in (RrsitrParams(), RrsitrParams(mask_padding="always"), RrsitrParams(exclude_same_image=True)):
        method = Rrsitr(ProbeBackbone(), p, Setup(10, 0, BATCH, 3))
        batch = make_batch(torch.arange(BATCH), "train", images=torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]))
        e = method.encode(batch)
        same = batch.image if p.exclude_same_image else None
        wanted = objective(cosine(e.image, e.text), local_similarity(e.image, e.text, p.mask_padding), p, same)
        assert torch.equal(method.loss(e, batch).total, wanted.total)


def test_a_caption_and_an_image_without_content_tokens_stay_finite():
    kind = torch.tensor([[SPECIAL, CONTENT, CONTENT]] * 3 + [[SPECIAL] * 3], dtype=torch.int8)
    bare = torch.tensor([[SPECIAL, CONTENT, PAD]] * 3 + [[PAD] * 3], dtype=torch.int8)
    tokens = [torch.randn(4, 3, 5, requires_grad=True) for _ in range(2)]
    image, text = (Features(t[:, 0], t, k) for t, k in zip(tokens, (kind, bare), strict=True))
    loss = built(mask_padding="always").loss(Encoded(image, text), make_batch(torch.arange(4), "train"))
    loss.total.backward()
    assert loss.total.isfinite() and all(t.grad.isfinite().all() for t in tokens)


@pytest.mark.parametrize(
    ("batch_size", "changes", "warned"),
    [
        (100, {}, ""),
        (128, {}, ""),
        (32, {}, "4 ln B = 13.86 at batch size 32; gamma1 = 5, gamma2 = 18: pairs are noisy from 18, above"),
        (1000, {}, "4 ln B = 27.63"),
        (100, {"local": False}, "2 ln B = 9.21"),
        (100, {"local": False, "gamma2": 9.0}, ""),
        (100, {"local": False, "pace": "off"}, ""),
    ],
)
def test_the_chance_level_is_shown_beside_gamma2(batch_size, changes, warned):
    probe = Probe(built(batch_size, **changes))
    probe.method.calibrate(probe)
    warnings = [m for m in probe.messages if m.startswith("warning")]
    assert (len(warnings) == 1 and warned in warnings[0]) if warned else not warnings
    assert changes.get("pace") or "ln B" in probe.messages[0]
    assert chance_level(100, True) == pytest.approx(18.4206807)


def test_an_epoch_of_noisy_pairs_alone_is_reported():
    probe = Probe.of("rrsitr", "no_rtl", {"gamma1": 1e-6, "gamma2": 1e-6})
    probe.train_epoch()
    probe.train_epoch()
    assert any("over 98 %" in m and "nothing trained" in m for m in probe.messages)
    calm = Probe.of("rrsitr", "full", {"gamma2": 1e6})
    calm.train_epoch()
    calm.train_epoch()
    assert not any("over 98 %" in m for m in calm.messages)
