"""PMPGuard: the card's vectors, its loss from plain floats, variants, the learned boundary, bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rsbench.backbones.base import CONTENT, PAD, SPECIAL, Features
from rsbench.errors import CapabilityError, UsageError
from rsbench.losses.contrastive import info_nce, joint_nce
from rsbench.losses.hinge import margin_ranking
from rsbench.losses.reduce import not_negative
from rsbench.methods.base import Batch, Encoded, Setup
from rsbench.methods.build import check_needs, load_card
from rsbench.methods.cards.pmpguard import CARD, PmpGuardParams
from rsbench.methods.pmpguard import STATISTICS, PmpGuard
from rsbench.methods.probe import DIM, PAIRS, Probe, ProbeBackbone, make_batch

PLAIN = PmpGuardParams(tau=0.5, g=0.4, lam=0.7)


def method(params: PmpGuardParams = PLAIN, seed: int = 0) -> PmpGuard:
    torch.manual_seed(seed)
    found = PmpGuard(ProbeBackbone(), params, Setup(PAIRS, 3, 8, 8)).double()
    torch.nn.init.constant_(found.logits.log_scale, -math.log(params.tau))
    if found.gate is not None:
        torch.nn.init.normal_(found.gate.attention.weight, std=0.3)
    return found


def encoded(n: int = 6, seed: int = 1, words: int = 5, shared: float = 1.0) -> Encoded:
    """Random features with special and padding tokens; `shared` scales what a pair has in common."""
    generator = torch.Generator().manual_seed(seed)
    signal = shared * torch.randn(n, 1, DIM, generator=generator, dtype=torch.float64)
    sides = []
    for length in (4, words):
        tokens = signal + torch.randn(n, length + 2, DIM, generator=generator, dtype=torch.float64)
        kind = torch.full((n, length + 2), CONTENT, dtype=torch.int8)
        kind[:, 0], kind[:, -1] = SPECIAL, SPECIAL
        sides.append(Features(tokens[:, 0], tokens, kind))
    sides[1].kind[::2, -2:] = PAD
    return Encoded(*sides)


def batch(n: int = 6, images: list[int] | None = None) -> Batch:
    ids = torch.arange(n)
    return Batch(ids, ids if images is None else torch.tensor(images), {}, {}, ids)


# The card's vectors


def test_vector_3_aggregation_loss():
    logits = torch.tensor([[0.8, 0.1], [0.3, 0.6]], dtype=torch.float64) / 0.5
    assert joint_nce(logits).tolist() == pytest.approx([0.961064, 1.070450], abs=1e-6)
    assert (2 * info_nce(logits)).tolist() == pytest.approx([0.533679, 0.750750], abs=1e-6)
    cosines = (logits * 0.5).mT
    for denominator, expected in (("joint", [0.961064, 1.070450]), ("symmetric", [0.533679, 0.750750])):
        found = method(replace(PLAIN, ia_denominator=denominator))._aggregation(
            cosines, not_negative(2, cosines.device)
        )
        assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_the_joint_loss_is_at_least_log_2():
    assert float(joint_nce(100 * torch.eye(4, dtype=torch.float64)).min()) == pytest.approx(math.log(2))
    x = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(joint_nce, x)


def test_vector_5_margin_loss():
    s = torch.tensor([[0.9, 0.5, 0.2], [0.7, 0.6, 0.3], [0.1, 0.4, 0.8]], dtype=torch.float64)
    blocked = not_negative(3, s.device)
    assert margin_ranking(s, 0.5, blocked).tolist() == pytest.approx([0.4, 1.0, 0.1])
    assert float(margin_ranking(s, 0.5, blocked, hardest=False).sum()) == pytest.approx(2.0)
    for hardest in (True, False):
        x = s.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda t, h=hardest: margin_ranking(t, 0.45, blocked, h), x)


# The whole loss, from its two score matrices, in plain floats


def twin_total(c: list[list[float]], s: list[list[float]] | None, p: PmpGuardParams, images: list[int]) -> float:
    n, total = len(c), 0.0
    for i in range(n):
        other = [k for k in range(n) if k != i and not (p.mask_same_image and images[k] == images[i])]
        row = math.exp(c[i][i] / p.tau) + sum(math.exp(c[i][k] / p.tau) for k in other)
        column = math.exp(c[i][i] / p.tau) + sum(math.exp(c[k][i] / p.tau) for k in other)
        own = math.exp(c[i][i] / p.tau)
        joint = p.ia_denominator == "joint"
        total -= math.log(own / (row + column)) if joint else math.log(own / row) + math.log(own / column)
        if s is not None:
            for values in ([s[i][k] for k in other], [s[k][i] for k in other]):
                hinges = [max(0.0, p.g - s[i][i] + v) for v in values] or [0.0]
                total += p.lam * (max(hinges) if p.negatives == "hardest" else sum(hinges))
    return total / n if p.reduction == "mean" else total


SETTINGS = {
    **{name: replace(PLAIN, **changes) for name, changes in CARD.variants.items()},
    "symmetric": replace(PLAIN, ia_denominator="symmetric"),
    "sum": replace(PLAIN, reduction="sum"),
    "all": replace(PLAIN, negatives="all"),
    "same image": replace(PLAIN, mask_same_image=True),
    "own": replace(PLAIN, cga_scope="own"),
    "gated": replace(PLAIN, pnaa_input="gated"),
    "binary": replace(PLAIN, pos_mask="binary", relev="plain"),
}


@pytest.mark.parametrize("images", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 2, 3], [1, 1, 1, 1, 1, 1]])
@pytest.mark.parametrize("name", SETTINGS)
def test_loss_equals_its_plain_twin(name, images):
    p, e = SETTINGS[name], encoded()
    m = method(p)
    loss = m.loss(e, batch(6, images))
    bare = method(replace(p, pnaa=False))
    c = bare.similarity(e.image, e.text)
    if p.cga_scope == "own":
        c = m.aggregated(*(fragments_of(x) for x in (e.image, e.text)))
    s = m.similarity(e.image, e.text) if p.pnaa else None
    expected = twin_total(c.tolist(), None if s is None else s.tolist(), p, images)
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-9)
    factor = len(images) if p.reduction == "mean" else 1
    assert float(loss.pair_loss.sum()) == pytest.approx(expected * factor, rel=1e-9)
    own = (c if s is None else s).detach().diagonal()
    assert torch.allclose(loss.clean_score, own)


def fragments_of(f: Features) -> Features:
    from rsbench.matchers.fragments import fragments

    return fragments(f)


def test_no_cga_aggregates_the_means_of_plain_tokens():
    e, m = encoded(), method(replace(PLAIN, cga=False, pnaa=False))
    words = [e.text.tokens[i][e.text.kind[i] == CONTENT].mean(0) for i in range(6)]
    regions = [e.image.tokens[i][e.image.kind[i] == CONTENT].mean(0) for i in range(6)]
    expected = torch.cosine_similarity(torch.stack(regions)[:, None], torch.stack(words)[None], dim=-1)
    assert torch.allclose(m.similarity(e.image, e.text), expected)
    assert m.gate is None


# Variants and options


def gradients(params: PmpGuardParams, e: Encoded, t_k: float = 0.4) -> list[torch.Tensor]:
    m = method(params).eval()
    if params.tk_source == "online":
        m.t_k.fill_(t_k)
    leaves = [e.image.tokens, e.text.tokens]
    for leaf in leaves:
        leaf.requires_grad_()
    return list(torch.autograd.grad(m.loss(e, batch()).total, leaves))


OPTIONS = {
    **{name: changes for name, changes in CARD.variants.items() if name != "full"},
    "own": {"cga_scope": "own"},
    "gated": {"pnaa_input": "gated"},
    "binary": {"pos_mask": "binary"},
    "multiply": {"pos_mask": "multiply"},
    "plain": {"relev": "plain"},
    "symmetric": {"ia_denominator": "symmetric"},
    "all": {"negatives": "all"},
    "sum": {"reduction": "sum"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_variant_and_option_differs_from_full(name):
    e = encoded(shared=0.1)
    one, two = gradients(PLAIN, e), gradients(replace(PLAIN, **OPTIONS[name]), e)
    assert not all(torch.allclose(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("name", ["own", "gated", "binary", "multiply", "plain", "symmetric", "all", "sum"])
def test_every_option_trains(name):
    probe = Probe.of("pmpguard", "full", OPTIONS[name])
    means = [torch.stack([x.total.detach() for x in probe.train_epoch()]).mean() for _ in range(20)]
    assert means[-1].isfinite() and float(means[-1]) < float(means[0])


@pytest.mark.parametrize("options", [{}, {"pnaa_input": "gated"}, {"pnaa": False}, {"cga": False, "pnaa": False}])
def test_similarity_by_blocks_equals_the_whole(monkeypatch, options):
    import rsbench.matchers.cross_gate as cross_gate
    import rsbench.methods.pmpguard as module

    m, e = method(replace(PLAIN, **options)).eval(), encoded(9)
    with torch.no_grad():
        whole = m.similarity(e.image, e.text)
        for elements in (1, 60, 400):
            monkeypatch.setattr(module, "SCORE_ELEMENTS", elements)
            monkeypatch.setattr(module, "BLOCK_ELEMENTS", elements)
            monkeypatch.setattr(cross_gate, "BLOCK_ELEMENTS", elements)
            assert torch.allclose(m.similarity(e.image, e.text), whole, atol=1e-12)
    for i in range(0, 9, 4):
        alone = m.similarity(e.image[i : i + 1], e.text[i : i + 1])
        assert torch.allclose(alone, whole[i : i + 1, i : i + 1], atol=1e-12)


# The boundary


def learned(n: int = 24, **options) -> tuple[PmpGuard, Encoded]:
    m, e = method(replace(PLAIN, tk_words=40, **options)).train(), encoded(n, seed=3)
    return m, e


def test_boundary_follows_matched_and_mismatched_words():
    m, e = learned()
    s = m.similarity(e.image, e.text).tolist()
    cosines = torch.cosine_similarity(e.image.tokens[:, :, None, None], e.text.tokens[None, None], dim=-1)
    positive, negative = [], []
    for i in range(24):
        column = [row[i] for row in s]
        if column[i] < max(column):
            continue
        low = column.index(min(column))
        for w in range(e.text.tokens.shape[1]):
            if int(e.text.kind[i, w]) == CONTENT:
                regions = [j for j in range(e.image.tokens.shape[1]) if int(e.image.kind[i, j]) == CONTENT]
                positive.append(max(float(cosines[i, j, i, w]) for j in regions))
                negative.append(max(float(cosines[low, j, i, w]) for j in regions))
    assert 40 < len(positive) < 24 * 5
    m.loss(e, batch(24))
    moments = []
    for values in (positive, negative):
        mean = sum(values) / len(values)
        moments += [mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))]
    assert [float(m.get_buffer(n)) for n in STATISTICS] == pytest.approx(moments, rel=1e-9)
    from rsbench.noise.boundary import boundary

    assert float(m.t_k) == pytest.approx(0.7 * boundary(*moments, 2.0), rel=1e-9)
    first, fitted = float(m.t_k), float(m.t_k) / 0.7
    again = m.loss(e, batch(24))
    assert float(again.terms["t_k"]) == pytest.approx(first)
    assert float(m.t_k) != pytest.approx(first) and float(m.updates) == 2 and 0 < fitted < 1


def test_boundary_is_kept_in_evaluation_without_enough_words_and_where_fixed():
    for change in (lambda m: m.eval(), lambda m: setattr(m, "params", replace(m.params, tk_words=10_000))):
        m, e = learned()
        change(m)
        m.loss(e, batch(24))
        assert float(m.t_k) == 0 and int(m.updates) == 0
    m, e = learned(tk_source="fixed", tk_start=0.3)
    loss = m.loss(e, batch(24))
    assert float(m.t_k) == pytest.approx(0.3) and float(loss.terms["t_k"]) == pytest.approx(0.3)
    m, e = learned()
    m.loss(e, batch(24, [5] * 24))
    assert int(m.updates) == 0


def test_the_boundary_changes_the_score_and_is_part_of_the_state():
    m, e = learned()
    before = m.similarity(e.image, e.text)
    m.loss(e, batch(24))
    after = m.similarity(e.image, e.text)
    assert not torch.allclose(before, after)
    other = method(PLAIN, seed=5)
    other.load_state_dict(m.state_dict())
    assert torch.equal(other.similarity(e.image, e.text), after)


def test_fixed_boundary_differs_once_the_other_has_moved():
    scores = []
    for source in ("online", "fixed"):
        m, e = learned(tk_source=source)
        m.loss(e, batch(24))
        scores.append(m.loss(e, batch(24)).total.detach())
    assert not torch.allclose(*scores)


# Bad input


def test_captions_without_content_use_their_pooled_vector_and_say_so_once():
    probe = Probe.of("pmpguard", "full", {})
    b = make_batch(torch.arange(8), "train")
    e = probe.method.encode(b)
    e.text.kind[2] = PAD
    loss = probe.method.loss(e, b)
    assert loss.total.isfinite() and loss.clean_score.isfinite().all()
    e.text.tokens = e.text.tokens.detach() + 100
    e.text.tokens[:2] -= 100
    e.text.tokens[3:] -= 100
    assert torch.allclose(probe.method.loss(e, b).clean_score[2], loss.clean_score[2])
    probe.method.epoch_phases(probe)
    assert any("no content token" in m for m in probe.messages)


def test_one_pair_and_a_batch_of_one_image_have_no_negatives():
    m = method()
    loss = m.loss(encoded(1), batch(1))
    assert float(loss.total.detach()) == pytest.approx(math.log(2))
    alike = method(replace(PLAIN, mask_same_image=True)).loss(encoded(4), batch(4, [7] * 4))
    assert float(alike.total.detach()) == pytest.approx(math.log(2))
    alike.total.backward()


def test_identical_words_collapse_the_normals_without_harm():
    m, e = learned(30)
    e.image.tokens[:] = torch.eye(DIM, dtype=torch.float64)[torch.arange(30) % DIM][:, None]
    e.text.tokens[:] = torch.eye(DIM, dtype=torch.float64)[torch.arange(30) % DIM][:, None]
    for _ in range(2):
        loss = m.loss(e, batch(30))
        assert loss.total.isfinite() and all(v.isfinite() for v in loss.terms.values())
    assert int(m.updates) == 2 and float(m.sd_pos) == pytest.approx(0, abs=1e-9) and 0 <= float(m.t_k) <= 1


def test_a_backbone_without_tokens_is_refused():
    values = {f: getattr(PmpGuardParams(), f) for f in PmpGuardParams.__dataclass_fields__}
    with pytest.raises(CapabilityError, match="tokens"):
        check_needs(load_card("pmpguard"), values, "plain", "heads", frozenset())


@pytest.mark.parametrize("bad", [{"tau": 0.001}, {"factor": 200.0}, {"alpha": 0.0}, {"tk_start": 1.5}, {"lam": 0.0}])
def test_values_out_of_range_are_refused(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        PmpGuardParams(**bad)


def test_gates_learn_faster_beside_a_pretrained_backbone_only():
    m = method()
    scales = {g["name"]: g.get("lr_scale", 1.0) for g in m.param_groups()}
    assert set(scales.values()) == {1.0}
    m.backbone.tuning = "full"
    scales = {g["name"]: g.get("lr_scale", 1.0) for g in m.param_groups()}
    assert scales == {"matrices": 1.0, "gate matrices": 2.0, "vectors": 1.0, "gate vectors": 2.0}
