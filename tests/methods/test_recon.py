"""ReCon: the card's vectors, a plain-Python twin of every variant's loss, division, memory, fall-backs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rsbench.backbones.base import CONTENT, PAD, SPECIAL
from rsbench.errors import CapabilityError
from rsbench.losses.relation import bounded
from rsbench.losses.triplet import triplet
from rsbench.methods.base import AMBIGUOUS, CLEAN, NOISY, TRAIN, WARMUP
from rsbench.methods.build import check_needs, resolve_params
from rsbench.methods.cards.recon import CARD, ReconParams
from rsbench.methods.probe import BATCH, PAIRS, Probe, make_batch
from rsbench.methods.recon import cross_modal, divide, matched, moved, weights

pytest.importorskip("sklearn")

G = [[0.82, 0.35, 0.20, 0.55], [0.30, 0.74, 0.41, 0.25], [0.45, 0.38, 0.36, 0.62], [0.15, 0.28, 0.50, 0.90]]
CLOSE = {"abs": 1e-6}
ALL = list(CARD.variants)


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


# The card's vectors


def test_vector_3_cross_modal_loss_matching_and_pseudo_label():
    assert cross_modal(tensor(G), 0.1).tolist() == pytest.approx([0.106400, 0.111082, 4.830745, 0.109161], **CLOSE)
    pbar = matched(tensor(G), 0.1)
    assert pbar.tolist() == pytest.approx([0.948424, 0.945974, 0.099959, 0.947426], **CLOSE)
    label = moved(tensor([1, 1, 0.2, 0.9]), pbar, 0.6)
    assert label.tolist() == pytest.approx([0.979370, 0.978389, 0.159984, 0.918970], **CLOSE)
    assert float(triplet(tensor(G), 0.2, hardest=False).sum()) == pytest.approx(1.6, **CLOSE)


def test_the_first_pseudo_label_is_the_first_matching():
    assert moved(tensor([math.nan, 0.5]), tensor([0.3, 1.0]), 0.6).tolist() == pytest.approx([0.3, 0.7])


def test_vector_4_penalty():
    division = torch.full((4,), AMBIGUOUS, dtype=torch.int8)
    inner = weights(division, tensor([0.1, 0.5, 0.7, 0.95]), tensor([1.0] * 4), ReconParams())[1]
    expected = [2.718282, 148.413159, 1096.633158, 13359.726830]
    assert [1 / x for x in inner.tolist()] == pytest.approx(expected, rel=1e-6)
    milder = weights(division, tensor([0.5] * 4), tensor([1.0] * 4), ReconParams(alpha=0.8))[1]
    assert 1 / float(milder[0]) == pytest.approx(math.exp(0.5 / 0.8))


def test_vector_5_loss_of_the_partitions():
    l_im, division = tensor([0.2, 2.5, 1.0, 0.3]), torch.tensor([CLEAN, AMBIGUOUS, NOISY, CLEAN], dtype=torch.int8)
    y_im = bounded(l_im)
    assert y_im.tolist() == pytest.approx([0.154206, 0.556101, 0.409384, 0.207836], **CLOSE)
    label = tensor([0.979370, 0.978389, 0.159984, 0.918970])
    own, inner = weights(division, y_im, label, ReconParams())
    per_pair = own * cross_modal(tensor(G), 0.1) + inner * l_im
    assert per_pair.tolist() == pytest.approx([0.731998, 0.565020, 0.772840, 0.845807], abs=2e-6)
    assert float(per_pair.mean()) == pytest.approx(0.728916, abs=2e-6)


def test_division_at_its_bounds():
    y_cm, y_im = tensor([0.51, 0.51, 0.5, 0.9, 0.1]), tensor([0.49, 0.5, 0.0, 1 - 1e-12, 0.9])
    assert divide(y_cm, y_im, 0.5, 0.5).tolist() == [CLEAN, AMBIGUOUS, NOISY, AMBIGUOUS, NOISY]
    assert divide(y_cm, y_im, 0.5, 1.0).tolist() == [CLEAN, CLEAN, NOISY, CLEAN, NOISY]


# A twin of the loss in plain floats


def unit(x):
    size = math.sqrt(sum(a * a for a in x))
    return [a / size for a in x]


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def soft(row, t=1.0):
    total = sum(math.exp(x / t) for x in row)
    return [math.exp(x / t) / total for x in row]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def linear(layer, x):
    bias = [0.0] * len(layer.weight) if layer.bias is None else layer.bias.tolist()
    return [dot(row, x) + b for row, b in zip(layer.weight.tolist(), bias, strict=True)]


def content_of(features, i):
    return [
        unit(t) for t, k in zip(features.tokens[i].tolist(), features.kind[i].tolist(), strict=True) if k == CONTENT
    ]


def twin_relation(method, image, text, i, p):
    """L_IM of pair i."""
    if p.relation == "none":
        return 0.0
    if p.relation == "batch":
        rows = []
        for x in (image, text):
            u = [unit(v) for v in x.pooled.tolist()]
            rows.append(soft([dot(u[i], u[j]) for j in range(len(u)) if j != i], p.im_temp))
        return kl(*rows) + kl(*rows[::-1])
    v, w = content_of(image, i), content_of(text, i)
    if p.relation == "official_block":
        every = v + w
        q, k = ([linear(layer, x) for x in every] for layer in (method.attention.query, method.attention.key))
        a = [soft([dot(x, y) / math.sqrt(len(x)) for y in k]) for x in q]
        total = 0.0
        ids = list(range(len(v))), list(range(len(v), len(every)))
        for own, other in (ids, ids[::-1]):
            match = [max(other, key=lambda j, r=r: a[r][j]) for r in own]
            for r, m in zip(own, match, strict=True):
                x, y = [a[r][j] for j in own], soft([a[m][j] for j in match])
                total += (kl(x, y) + kl(y, x)) / len(own)
        return total
    total = 0.0
    for own, other in ((v, w), (w, v)):
        match = [max(range(len(other)), key=lambda j, x=x: dot(x, other[j])) for x in own]
        for a in range(len(own)):
            x = soft([dot(own[a], own[b]) for b in range(len(own))], p.im_temp)
            y = soft([dot(other[match[a]], other[match[b]]) for b in range(len(own))], p.im_temp)
            both = kl(x, y) + (kl(y, x) if p.relation == "symmetric" else 0)
            total += both / (len(own) if p.im_reduce == "mean" else 1)
    return total


def twin_total(method, encoded, batch, p):
    u, w = ([unit(x) for x in f.pooled.tolist()] for f in (encoded.image, encoded.text))
    g = [[dot(a, b) for b in w] for a in u]
    total, n = 0.0, len(g)
    for i, pair in enumerate(batch.pair.tolist()):
        p1, p2 = soft(g[i], p.tau)[i], soft([g[k][i] for k in range(n)], p.tau)[i]
        l_cm, l_im = -math.log(p1) - math.log(p2), twin_relation(method, encoded.image, encoded.text, i, p)
        part, y_im = int(method.partition[pair]), float(method.y_im[pair])
        if part == NOISY:
            total += float(method.label[pair]) * l_cm
        elif part == AMBIGUOUS:
            total += p.xi * l_cm + l_im / (math.exp(y_im / p.alpha) if p.penalty else 1)
        else:
            total += p.xi * l_cm + l_im
    return total / n


def divided(variant, seed=0, **params):
    """A method in double precision whose memory holds all three partitions, and a batch of the training phase."""
    probe = Probe.of("recon", variant, params, seed)
    method = probe.method.double()
    g = torch.Generator().manual_seed(seed)
    y_cm = torch.rand(PAIRS, generator=g)
    method.log_y_cm.copy_(y_cm.log())
    method.y_im.copy_(0.3 + 0.4 * torch.rand(PAIRS, generator=g))
    method.label.copy_(torch.rand(PAIRS, generator=g))
    method.partition.copy_(divide(y_cm, method.y_im, method.params.omega1, method.params.omega2))
    batch = make_batch(torch.arange(3, 3 + BATCH), TRAIN, 6)
    for fields in (batch.images, batch.texts):
        fields["hidden"] = fields["hidden"].double()
    return method, batch


@pytest.mark.parametrize("variant", ALL)
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_equals_its_plain_twin(variant, seed):
    method, batch = divided(variant, seed)
    encoded = method.encode(batch)
    total = float(method.loss(encoded, batch).total.detach())
    assert total == pytest.approx(twin_total(method, encoded, batch, method.params), rel=1e-9)


def loss_and_gradient(variant):
    method, batch = divided(variant)
    loss = method.loss(method.encode(batch), batch)
    loss.total.backward()
    return float(loss.total.detach()), method.backbone.image.weight.grad, loss


@pytest.mark.parametrize("variant", [v for v in ALL if v != "full"])
def test_each_variant_differs_from_full(variant):
    total, gradient, _ = loss_and_gradient("full")
    other, other_gradient, _ = loss_and_gradient(variant)
    assert total != pytest.approx(other, rel=1e-6)
    assert not torch.allclose(gradient, other_gradient, rtol=1e-4)


def test_parts_left_out():
    """``cm_only`` has no L_IM at all; without the penalty, all of the rough clean part has it at weight 1."""
    _, _, loss = loss_and_gradient("cm_only")
    assert float(loss.terms["intra_modal"]) == 0 == float(loss.terms["discrepancy"])
    without, merged = loss_and_gradient("no_lambda"), loss_and_gradient("no_tru")
    assert without[0] == merged[0] and torch.equal(without[1], merged[1])
    assert not torch.equal(without[2].division, merged[2].division)


def test_the_loss_gradient():
    """Finite differences through the whole loss, partitions, labels and lambda held as the memory holds them."""
    method, batch = divided("full")
    encoded = method.encode(batch)
    leaves = [t.detach().requires_grad_() for f in (encoded.image, encoded.text) for t in (f.pooled, f.tokens)]

    def total(*x):
        image, text = replace(encoded.image, pooled=x[0], tokens=x[1]), replace(encoded.text, pooled=x[2], tokens=x[3])
        return method.loss(replace(encoded, image=image, text=text), batch).total

    assert torch.autograd.gradcheck(total, leaves, fast_mode=True)


def test_warmup_is_the_mean_sum_of_hinges():
    method, batch = divided("full")
    encoded = method.encode(batch)
    u, w = ([unit(x) for x in f.pooled.tolist()] for f in (encoded.image, encoded.text))
    g = [[dot(a, b) for b in w] for a in u]
    n = len(g)
    hinges = [
        max(0, 0.2 - g[i][i] + g[i][j]) + max(0, 0.2 - g[i][i] + g[j][i]) for i in range(n) for j in range(n) if i != j
    ]
    loss = method.loss(encoded, replace(batch, phase=WARMUP))
    assert float(loss.total.detach()) == pytest.approx(sum(hinges) / n, rel=1e-9)
    assert loss.division is None and torch.equal(loss.clean_score, -loss.records["l_cm"])


def test_the_clean_score_joins_both_tests():
    method, batch = divided("full")
    loss = method.loss(method.encode(batch), batch)
    y_cm, y_im = method.log_y_cm[batch.pair].exp(), method.y_im[batch.pair]
    assert torch.allclose(loss.clean_score, (y_cm * (1 - y_im)).log())
    assert torch.allclose(loss.records["y_cm"], y_cm) and torch.equal(loss.records["y_im"], y_im)
    assert torch.equal(loss.division, method.partition[batch.pair])
    shares = [float(loss.terms[f"share_{name}"]) for name in ("clean", "ambiguous", "noisy")]
    assert sum(shares) == pytest.approx(1) and all(shares)


# Tokens


@pytest.mark.parametrize("variant", ["full", "symmetric", "official_block"])
def test_special_and_padding_tokens_take_no_part(variant):
    method, batch = divided(variant)
    totals = []
    for filler in (0.0, 7.0):
        texts = {k: v.clone() for k, v in batch.texts.items()}
        texts["kind"][:, 0] = SPECIAL
        texts["hidden"][texts["kind"] == SPECIAL] += filler
        texts["hidden"][texts["kind"] == PAD] += filler
        totals.append(float(method.loss(method.encode(replace(batch, texts=texts)), batch).total))
    assert totals[0] == pytest.approx(totals[1], rel=1e-12)


@pytest.mark.parametrize("variant", ["full", "symmetric", "official_block"])
def test_captions_without_content_are_divided_by_the_cross_modal_test(variant):
    """The probe's pooled vector is a mean of content, so captions lose their content after encoding."""
    probe = Probe.of("recon", variant, {"warmup_epochs": 0})
    encode = type(probe.method).encode

    def stripped(batch):
        encoded = encode(probe.method, batch)
        encoded.text.kind = torch.where((batch.pair < 4)[:, None], SPECIAL, encoded.text.kind)
        return encoded

    probe.method.encode = stripped
    losses = probe.train_epoch()
    method = probe.method
    assert all(loss.total.isfinite() for loss in losses)
    assert method.y_im[:4].tolist() == [0] * 4 and (method.y_im[4:] > 0).all()
    assert AMBIGUOUS not in method.partition[:4].tolist()
    assert [m for m in probe.messages if "4 of 24 pairs have no content token" in m]


def test_needs_follow_the_relation():
    for variant in ALL:
        values = resolve_params(CARD, variant, {})
        wanted = frozenset() if variant in ("batch", "cm_only") else frozenset({"tokens"})
        assert CARD.needs_of(values) == wanted
    with pytest.raises(CapabilityError, match="needs tokens"):
        check_needs(CARD, resolve_params(CARD, "full", {}), "pooled-only", "heads", frozenset())


def test_replaced_embeddings_do_not_depend_on_the_partner():
    method, batch = divided("official_block")
    whole = method.encode_images(batch.images).pooled
    alone = method.encode_images({k: v[2:3] for k, v in batch.images.items()}).pooled
    assert torch.allclose(whole[2:3], alone) and not torch.allclose(
        whole, method.backbone.encode_image(batch.images).pooled
    )


def test_the_relation_of_the_official_block_trains_its_linears_alone():
    method, batch = divided("official_block")
    encoded = method.encode(batch)
    method._discrepancy(encoded.image, encoded.text).sum().backward()
    assert method.attention.query.weight.grad.any() and method.backbone.image.weight.grad is None


@pytest.mark.parametrize("variant", ALL)
def test_a_batch_of_one_is_finite(variant):
    method, _ = divided(variant)
    one = make_batch(torch.tensor([5]), TRAIN)
    one.images["hidden"], one.texts["hidden"] = one.images["hidden"].double(), one.texts["hidden"].double()
    for phase in (WARMUP, TRAIN):
        loss = method.loss(method.encode(one), replace(one, phase=phase))
        assert loss.total.isfinite() and loss.pair_loss.isfinite().all()
