"""Relation discrepancies: the card's vectors, plain-Python twins, padding, gradients."""

from __future__ import annotations

import math
import random

import pytest
import torch

from rsbench.losses.relation import (
    attention_discrepancy,
    batch_discrepancy,
    best_match,
    bounded,
    comparable,
    proxy,
    row_kl,
    token_discrepancy,
    unbounded,
)

V = [[1, 0.1, 0, 0], [0, 1, 0.1, 0], [0, 0, 1, 0.2]]
L = [[0.9, 0.2, 0, 0.1], [0.1, 0.8, 0.3, 0]]
CLOSE = {"abs": 1e-6}


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


def real(*counts):
    """Masks of the given numbers of leading content tokens, and as many columns as the largest."""
    return torch.tensor([[j < n for j in range(max(counts))] for n in counts])


def pair():
    return tensor([V]), tensor([L]), real(3), real(2)


def relations():
    v, w = (torch.nn.functional.normalize(tensor(x), dim=-1) for x in (V, L))
    return (v @ v.T)[None], (w @ w.T)[None], (v @ w.T)[None]


# Twins in plain floats


def unit(x):
    size = math.sqrt(sum(a * a for a in x))
    return [a / size for a in x]


def dots(a, b):
    return [[sum(x * y for x, y in zip(i, j, strict=True)) for j in b] for i in a]


def soft(row, t=1.0):
    total = sum(math.exp(x / t) for x in row)
    return [math.exp(x / t) / total for x in row]


def divergence(p, q):
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))


def first_largest(row):
    return row.index(max(row))


def twin_tokens(v, w, t, reduce, symmetric):
    v, w = [unit(x) for x in v], [unit(x) for x in w]
    total = 0.0
    for own, other in ((v, w), (w, v)):
        match = [first_largest(row) for row in dots(own, other)]
        c, within = dots(own, own), dots(other, other)
        rows = []
        for a in range(len(own)):
            p, q = soft(c[a], t), soft([within[match[a]][match[b]] for b in range(len(own))], t)
            rows.append(divergence(p, q) + (divergence(q, p) if symmetric else 0))
        total += sum(rows) / (len(rows) if reduce == "mean" else 1)
    return total


def twin_attention(logits, n):
    a = [soft(row) for row in logits]
    v, w = list(range(n)), list(range(n, len(logits)))
    total = 0.0
    for own, other in ((v, w), (w, v)):
        match = [other[first_largest([a[i][j] for j in other])] for i in own]
        for i, m in zip(own, match, strict=True):
            p, q = [a[i][j] for j in own], soft([a[m][k] for k in match])
            total += (divergence(p, q) + divergence(q, p)) / len(own)
    return total


def twin_batch(image, text, t):
    rows = []
    c, d = ([dots([unit(x) for x in m], [unit(x) for x in m])][0] for m in (image, text))
    for i in range(len(image)):
        p, q = ([m[i][j] for j in range(len(image)) if j != i] for m in (c, d))
        p, q = soft(p, t) if p else [], soft(q, t) if q else []
        rows.append(divergence(p, q) + divergence(q, p))
    return rows


def vectors(n, d, draw):
    return [[draw.gauss(0, 1) for _ in range(d)] for _ in range(n)]


def padded(lists, filler=9.0):
    """Token lists of several lengths as one tensor (padding holds noise) and its mask."""
    longest = max(map(len, lists))
    width = len(next(x for x in lists if x)[0])
    rows = [x + [[filler * (k + 1) for k in range(width)]] * (longest - len(x)) for x in lists]
    return tensor(rows), real(*map(len, lists))


# The card's vectors


def test_vector_1_matches_and_proxies():
    vv, ll, vl = relations()
    expected = [[0.987138, 0.208207], [0.214595, 0.960067], [0.021148, 0.341971]]
    for row, wanted in zip(vl[0].tolist(), expected, strict=True):
        assert row == pytest.approx(wanted, **CLOSE)
    to_text, to_image = best_match(vl, real(2)), best_match(vl.mT, real(3))
    assert to_text.argmax(-1).tolist() == [[0, 1, 1]] and to_image.argmax(-1).tolist() == [[0, 1]]
    x, y = 0.313383, 0.099010
    for row, wanted in zip(proxy(to_text, ll)[0].tolist(), [[1, x, x], [x, 1, 1], [x, 1, 1]], strict=True):
        assert row == pytest.approx(wanted, **CLOSE)
    for row, wanted in zip(proxy(to_image, vv)[0].tolist(), [[1, y], [y, 1]], strict=True):
        assert row == pytest.approx(wanted, **CLOSE)


def test_vector_2_row_divergences():
    vv, ll, vl = relations()
    rows = row_kl(vv, proxy(best_match(vl, real(2)), ll), real(3))
    assert rows[0].tolist() == pytest.approx([0.009088, 0.073227, 0.073278], **CLOSE)
    rows = row_kl(ll, proxy(best_match(vl.mT, real(3)), vv), real(2))
    assert rows[0].tolist() == pytest.approx([0.004990, 0.004990], **CLOSE)


@pytest.mark.parametrize(
    ("temperature", "symmetric", "reduce", "expected"),
    [
        (1.0, False, "mean", 0.056855),
        (1.0, False, "sum", 0.165574),
        (1.0, True, "mean", 0.117827),
        (1.0, True, "sum", 0.343634),
        (0.1, False, "mean", 0.463267),
        (0.1, False, "sum", 1.388487),
        (0.1, True, "mean", 3.010251),
        (0.1, True, "sum", 9.028783),
    ],
)
def test_vector_2_readings(temperature, symmetric, reduce, expected):
    found = token_discrepancy(*pair(), temperature, reduce, symmetric)
    assert float(found) == pytest.approx(expected, **CLOSE)


def test_vector_2_bounded_discrepancy():
    found = bounded(tensor([0.056855, 0.165574, 1.388487, math.e - 1, 0]))
    assert found.tolist() == pytest.approx([0.052400, 0.132858, 0.465429, 0.5, 0], **CLOSE)
    assert unbounded(0.5) == pytest.approx(math.e - 1) and unbounded(1.0) == math.inf


def test_vector_2_official_block_with_identity_linears():
    tokens = torch.nn.functional.normalize(tensor([V + L]), dim=-1)
    found = attention_discrepancy(tokens @ tokens.mT / 2, real(3), real(2))
    assert float(found) == pytest.approx(0.753699, **CLOSE)


@pytest.mark.parametrize(("words", "offset"), [(8, 1.431279), (12, 1.111641), (16, 0.929138), (24, 0.754105)])
def test_official_block_has_an_offset_that_depends_on_the_number_of_words(words, offset):
    found = attention_discrepancy(torch.zeros(1, 36 + words, 36 + words).double(), real(36), real(words))
    assert float(found) == pytest.approx(offset, **CLOSE)


# Twins


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_tokens_equal_their_plain_twin(seed, reduce, symmetric):
    draw = random.Random(seed)
    images = [vectors(draw.randint(1, 5), 4, draw) for _ in range(5)]
    texts = [vectors(draw.randint(1, 6), 4, draw) for _ in range(5)]
    (v, v_real), (w, w_real) = padded(images), padded(texts)
    found = token_discrepancy(v, w, v_real, w_real, 0.3, reduce, symmetric)
    expected = [twin_tokens(a, b, 0.3, reduce, symmetric) for a, b in zip(images, texts, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_attention_equals_its_plain_twin(seed):
    draw = random.Random(seed)
    n, m = draw.randint(1, 5), draw.randint(1, 5)
    plain = vectors(n + m, n + m, draw)
    found = attention_discrepancy(tensor([plain]), real(n), real(m))
    assert float(found) == pytest.approx(twin_attention(plain, n), rel=1e-9)
    wide = torch.full((1, n + m + 3, n + m + 3), 5.0).double()  # one padded image token, two padded words
    keep = [*range(n), *range(n + 1, n + 1 + m)]
    wide[0, torch.tensor(keep)[:, None], torch.tensor(keep)] = tensor(plain)
    v_real, w_real = torch.tensor([[True] * n + [False]]), torch.tensor([[True] * m + [False] * 2])
    assert float(attention_discrepancy(wide, v_real, w_real)) == pytest.approx(float(found), rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_batch_equals_its_plain_twin(n):
    draw = random.Random(n)
    image, text = vectors(n, 4, draw), vectors(n, 4, draw)
    found = batch_discrepancy(tensor(image), tensor(text), 0.2).tolist()
    assert found == pytest.approx(twin_batch(image, text, 0.2), rel=1e-9, abs=1e-12)
    assert n > 2 or found == [0.0] * n


# What must not matter, and what must


def test_equal_relations_have_no_discrepancy():
    v, _, v_real, _ = pair()
    assert float(token_discrepancy(v, v, v_real, v_real, symmetric=True)) == pytest.approx(0, abs=1e-12)
    assert batch_discrepancy(v[0], v[0]).abs().max() < 1e-12


@pytest.mark.parametrize("reading", ["tokens", "attention"])
def test_a_pair_without_content_has_none_and_finite_gradients(reading):
    draw = random.Random(1)
    (v, v_real), (w, w_real) = padded([vectors(3, 4, draw)] * 3), padded([vectors(2, 4, draw), [], vectors(1, 4, draw)])
    v_real[2] = False
    v.requires_grad_(), w.requires_grad_()
    if reading == "tokens":
        found = token_discrepancy(v, w, v_real, w_real)
    else:
        tokens = torch.cat((v, w), dim=1)
        found = attention_discrepancy(tokens @ tokens.mT, v_real, w_real)
    found.sum().backward()
    assert found[0] > 0 and found[1:].tolist() == [0, 0]
    assert v.grad.isfinite().all() and w.grad.isfinite().all() and v.grad[0].any()
    assert not v.grad[1:].any() and not w.grad[1:].any()
    assert comparable(v_real, w_real).tolist() == [True, False, False]


def test_padding_gets_no_gradient():
    draw = random.Random(2)
    (v, v_real), (w, w_real) = padded([vectors(3, 4, draw), vectors(2, 4, draw)]), padded([vectors(2, 4, draw)] * 2)
    v.requires_grad_()
    token_discrepancy(v, w, v_real, w_real).sum().backward()
    assert not v.grad[1, 2].any() and v.grad[v_real].all()


@pytest.mark.parametrize("symmetric", [False, True])
def test_token_gradient(symmetric):
    v, w, v_real, w_real = pair()
    w_real = torch.tensor([[True, True]])
    fn = lambda a, b: token_discrepancy(a, b, v_real, w_real, 0.4, "sum", symmetric)  # noqa: E731
    assert torch.autograd.gradcheck(fn, (v.requires_grad_(), w.requires_grad_()))


def test_attention_gradient_with_the_proxy_held_fixed():
    """Finite differences of the twin whose targets are frozen at the point, as the detached block asks."""
    draw = random.Random(4)
    plain = vectors(5, 5, draw)
    x = tensor([plain]).requires_grad_()
    attention_discrepancy(x, real(3), real(2)).backward()

    a = [soft(row) for row in plain]
    v, w = [0, 1, 2], [3, 4]
    targets = []
    for own, other in ((v, w), (w, v)):
        match = [other[first_largest([a[i][j] for j in other])] for i in own]
        targets.append((own, [soft([a[m][k] for k in match]) for m in match]))

    def value(rows):
        b, total = [soft(row) for row in rows], 0.0
        for own, fixed in targets:
            for i, q in zip(own, fixed, strict=True):
                p = [b[i][j] for j in own]
                total += (divergence(p, q) + divergence(q, p)) / len(own)
        return total

    for i in range(5):
        for j in range(5):
            up, down = ([list(r) for r in plain] for _ in range(2))
            up[i][j] += 1e-5
            down[i][j] -= 1e-5
            assert float(x.grad[0, i, j]) == pytest.approx((value(up) - value(down)) / 2e-5, abs=1e-7)


def test_batch_gradient():
    draw = random.Random(5)
    image, text = (tensor(vectors(4, 3, draw)).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: batch_discrepancy(a, b, 0.5), (image, text))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype):
    v, w, v_real, w_real = pair()
    found = token_discrepancy(v.to(dtype), w.to(dtype), v_real, w_real)
    assert found.dtype == torch.float32 and float(found) == pytest.approx(1.388487, rel=0.05)
