"""Cross-gated attention: the card's vector, a twin in plain floats, gradients, blocks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from rsbench.backbones.base import CONTENT, PAD, Features
from rsbench.matchers import cross_gate, gated_mean
from rsbench.matchers.cross_gate import CrossGate, block_rows


def features(lengths: list[int], dim: int, seed: int) -> Features:
    generator, longest = torch.Generator().manual_seed(seed), max(lengths)
    real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    tokens = torch.randn(len(lengths), longest, dim, generator=generator, dtype=torch.float64)
    tokens = tokens.masked_fill(~real[..., None], 0)
    return Features(tokens[:, 0], tokens, torch.where(real, CONTENT, PAD).to(torch.int8))


def gate(dim: int, seed: int = 0) -> CrossGate:
    torch.manual_seed(seed)
    found = CrossGate(dim).double()
    torch.nn.init.normal_(found.attention.weight)
    return found


def card_setting() -> tuple[CrossGate, Features, Features]:
    found = CrossGate(2).double()
    for p in (*found.text_gate.parameters(), *found.image_gate.parameters()):
        torch.nn.init.zeros_(p)
    kind = torch.zeros(1, 2, dtype=torch.int8)
    u = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    v = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]], dtype=torch.float64)
    return found, Features(v[:, 0], v, kind), Features(u[:, 0], u, kind)


# A twin in plain floats


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def norm(a):
    return math.sqrt(dot(a, a))


def times(matrix, x):
    return [dot(row, x) for row in matrix]


def softmax(x):
    e = [math.exp(v) for v in x]
    return [v / sum(e) for v in e]


def blend(weights, rows):
    return [sum(w * r[k] for w, r in zip(weights, rows, strict=True)) for k in range(len(rows[0]))]


def gated_twin(module, words, regions):
    w = module.attention.weight.tolist()
    a = [[dot(u, times(w, v)) / (norm(u) * norm(v)) for v in regions] for u in words]
    sides = []
    for own, other, rows, layer in (
        (words, regions, a, module.text_gate),
        (regions, words, [list(c) for c in zip(*a, strict=True)], module.image_gate),
    ):
        weight, bias, gated = layer.weight.tolist(), layer.bias.tolist(), []
        for x, row in zip(own, rows, strict=True):
            seen = blend(softmax(row), other)
            z = [p + b for p, b in zip(times(weight, x + seen), bias, strict=True)]
            g = [1 / (1 + math.exp(-v)) for v in z]
            gated.append([gk * xk + (1 - gk) * sk for gk, xk, sk in zip(g, x, seen, strict=True)])
        sides.append(gated)
    return sides


def real_rows(f: Features, i: int) -> list[list[float]]:
    return f.tokens[i][f.kind[i] == CONTENT].tolist()


def mean(rows):
    return blend([1 / len(rows)] * len(rows), rows)


def test_vector_2():
    module, image, text = card_setting()
    a = module.affinity(image, text)[0, :, 0].mT
    assert a.tolist() == [pytest.approx([1, 0.6]), pytest.approx([0, 0.8])]
    vh, uh = module.gated(image, text)
    assert uh[0, 0].tolist() == [
        pytest.approx([0.919738, 0.160525], abs=1e-6),
        pytest.approx([0.362005, 0.775990], abs=1e-6),
    ]
    assert vh[0, 0].tolist() == [
        pytest.approx([0.865529, 0.134471], abs=1e-6),
        pytest.approx([0.525083, 0.674917], abs=1e-6),
    ]
    alpha, beta = module._attention(image, text)
    assert alpha[0, 0].tolist() == pytest.approx([0.598688, 0.401312], abs=1e-6)
    assert beta[0, 1].tolist() == pytest.approx([0.450166, 0.549834], abs=1e-6)


def test_gated_tokens_and_scores_equal_their_plain_twin():
    module, image, text = gate(3), features([4, 2, 3], 3, 1), features([3, 1], 3, 2)
    vh, uh = module.gated(image, text)
    scores = module.scores(image, text)
    for i, j in itertools.product(range(3), range(2)):
        words, regions = real_rows(text, j), real_rows(image, i)
        u, v = gated_twin(module, words, regions)
        for k, row in enumerate(u):
            assert uh[i, j, k].tolist() == pytest.approx(row, rel=1e-9)
        for k, row in enumerate(v):
            assert vh[i, j, k].tolist() == pytest.approx(row, rel=1e-9)
        a, b = mean(u), mean(v)
        assert float(scores[i, j]) == pytest.approx(dot(a, b) / (norm(a) * norm(b)), rel=1e-9)


def test_own_partner_is_the_diagonal_of_all_pairs():
    module, image, text = gate(3), features([4, 2, 3], 3, 1), features([3, 1, 2], 3, 2)
    v, u = module.own(image, text)
    expected = module.scores(image, text).diagonal()
    assert torch.allclose(torch.cosine_similarity(v, u), expected, atol=1e-12)


@pytest.mark.parametrize("elements", [1, 50, 200, 10**6])
def test_blocks_equal_the_whole_forward_and_backward(monkeypatch, elements):
    module, image, text = gate(4), features([3, 5, 2, 4], 4, 3), features([2, 6, 1, 3, 5], 4, 4)
    for f in (image, text):
        f.tokens.requires_grad_()
    weight = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def run():
        found = module.scores(image, text)
        leaves = (image.tokens, text.tokens, *module.parameters())
        return found.detach(), torch.autograd.grad((found * weight).sum(), leaves)

    whole, gradients = run()
    monkeypatch.setattr(gated_mean, "CACHED", elements)
    monkeypatch.setattr(cross_gate, "BLOCK_ELEMENTS", elements)
    again, repeated = run()
    with torch.no_grad():
        scored = module.scores(image, text)
    assert torch.allclose(again, whole, atol=1e-12) and torch.allclose(scored, whole, atol=1e-12)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(gradients, repeated, strict=True))


def test_gradients_against_finite_differences():
    module, image, text = gate(2), features([2, 3], 2, 5), features([3, 2], 2, 6)

    def scores(v, u, *weights):
        names = [n for n, _ in module.named_parameters()]
        inputs = (Features(v[:, 0], v, image.kind), Features(u[:, 0], u, text.kind))
        return torch.func.functional_call(
            _Scores(module), {f"gate.{n}": w for n, w in zip(names, weights, strict=True)}, inputs
        )

    leaves = [image.tokens, text.tokens, *(p.detach().clone() for p in module.parameters())]
    real = [image.kind == CONTENT, text.kind == CONTENT]

    def masked(v, u, *weights):
        return scores(v.masked_fill(~real[0][..., None], 0), u.masked_fill(~real[1][..., None], 0), *weights)

    assert torch.autograd.gradcheck(masked, [x.requires_grad_() for x in leaves])


class _Scores(torch.nn.Module):
    def __init__(self, module):
        super().__init__()
        self.gate = module

    def forward(self, image, text):
        return self.gate.scores(image, text)


def test_gated_mean_gradient(monkeypatch):
    monkeypatch.setattr(gated_mean, "CACHED", 48)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    leaves = (draw(3, 2, 4), draw(3, 2, 4), draw(5, 3, 4), draw(5, 3, 4), draw(5, 6, 3))
    share = torch.rand(3, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *x: gated_mean.gated_mean(*x, share), leaves)


def test_block_rows_stay_within_their_bound():
    image, text = features([5] * 40, 4, 0), features([7] * 90, 4, 1)
    for bound in (1, 28, 1000, 5000, 10**7):
        rows, columns = block_rows(image, text, bound)
        assert rows >= 1 and columns >= 1
        assert rows * columns * 4 * 7 <= max(bound, 28)
