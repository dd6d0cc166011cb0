"""Adapters: the card's vectors, plain twins, gradients, packing, sentences, gates and hooks."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from rsbench.backbones.adapters.bottleneck import CrossModalAdapter, Gate, PlainAdapter, SharedAttention
from rsbench.backbones.adapters.differential import DifferentialAttention, depth_lam, differential_map
from rsbench.backbones.adapters.hierarchical import ContextAttention, HierarchicalAttention
from rsbench.backbones.adapters.hooks import attached
from rsbench.backbones.base import CONTENT, PAD

CLOSE = {"abs": 1e-6}


def tensor(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 with every parameter drawn at random, zeroed layers too."""
    generator = torch.Generator().manual_seed(seed)
    module.double().eval()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return module


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Differential attention


def lam_of_the_card() -> DifferentialAttention:
    module = DifferentialAttention(4, 0.8).double()
    with torch.no_grad():
        for name, values in {"q1": (0.1, 0.2), "k1": (0.3, -0.1), "q2": (0.2, 0.0), "k2": (0.1, 0.4)}.items():
            getattr(module, f"lam_{name}").copy_(tensor(values))
    return module


def test_vector_1_lambda() -> None:
    assert lam_of_the_card().lam.item() == pytest.approx(0.789849, **CLOSE)


def test_vector_2_differential_map() -> None:
    q = tensor([[[1, 0], [0, 1]], [[0, 1], [1, 0]]])
    k = tensor([[[1, 0], [1, 1]], [[1, 1], [0, 1]]])
    lam = lam_of_the_card().lam.detach()
    found = differential_map(q, k, lam)
    assert found.tolist() == [pytest.approx(r, **CLOSE) for r in ([0.105076, 0.105076], [-0.198772, 0.408923])]
    assert found.sum(-1).tolist() == pytest.approx([0.210151] * 2, **CLOSE)
    output = found @ tensor([[1, 2], [3, 4]])
    assert output.tolist() == [pytest.approx(r, **CLOSE) for r in ([0.420302, 0.630454], [1.027997, 1.238149])]


def test_vector_8_lambda_by_depth() -> None:
    expected = [0.2, 0.355509, 0.470713, 0.556058, 0.619283, 0.666122]
    expected += [0.700821, 0.726526, 0.745569, 0.759677, 0.770128, 0.777870]
    assert [depth_lam(i) for i in range(12)] == pytest.approx(expected, **CLOSE)


def times(rows, matrix):
    """``x W^T`` in plain floats."""
    return [[sum(a * b for a, b in zip(x, w, strict=True)) for w in matrix] for x in rows]


def softmax(scores):
    exps = [math.exp(s) for s in scores]
    return [e / sum(exps) for e in exps]


def attention_twin(x, module: DifferentialAttention, heads: int):
    """Eq. 2 and 3 in plain floats, head by head."""
    weights = {n: getattr(module, n).weight.tolist() for n in ("query", "key", "value")}
    q, k, v = (times(x, weights[n]) for n in ("query", "key", "value"))
    vectors = {n: getattr(module, f"lam_{n}").tolist() for n in ("q1", "k1", "q2", "k2")}
    dots = [sum(a * b for a, b in zip(vectors[f"q{i}"], vectors[f"k{i}"], strict=True)) for i in "12"]
    lam = math.exp(dots[0]) - math.exp(dots[1]) + module.lam_init
    r = len(x[0])
    d, output = r // (2 * heads), [[] for _ in x]
    for h in range(heads):
        for i in range(len(x)):
            maps = []
            for half in (0, 1):
                part = slice((2 * h + half) * d, (2 * h + half + 1) * d)
                maps.append(
                    softmax([sum(a * b for a, b in zip(q[i][part], kj[part], strict=True)) / d**0.5 for kj in k])
                )
            weight = [a - lam * b for a, b in zip(*maps, strict=True)]
            mine = [sum(w * vj[c] for w, vj in zip(weight, v, strict=True)) for c in range(2 * h * d, 2 * (h + 1) * d)]
            if module.norm is not None:
                size = math.sqrt(sum(m * m for m in mine) / len(mine) + 1e-5)
                scale = module.norm.weight.tolist()
                mine = [(1 - module.lam_init) * m / size * s for m, s in zip(mine, scale, strict=True)]
            output[i] += mine
    return output


@pytest.mark.parametrize(("heads", "subln"), [(1, False), (2, False), (2, True)])
def test_differential_attention_equals_its_twin(heads: int, subln: bool) -> None:
    module = filled(DifferentialAttention(8, 0.6, heads, subln))
    x = random(2, 3, 8)
    found = module(x)
    for row in range(2):
        twin = attention_twin(x[row].tolist(), module, heads)
        assert found[row].tolist() == [pytest.approx(t, abs=1e-9) for t in twin]


def test_lambda_vectors_are_no_matrices() -> None:
    assert all(p.ndim == 1 for n, p in DifferentialAttention(8).named_parameters() if n.startswith("lam"))


def test_differential_attention_gradient() -> None:
    module = filled(DifferentialAttention(4, 0.5))
    assert torch.autograd.gradcheck(module, random(2, 3, 4).requires_grad_())


# Hierarchical attention


def test_vector_3_word_attention() -> None:
    pool = ContextAttention(2).double()
    with torch.no_grad():
        pool.inner.weight.copy_(tensor([[1, -1], [0.5, 0.5]]))
        pool.inner.bias.copy_(tensor([0.1, 0]))
        pool.context.copy_(tensor([1, 2]))
    h, valid = tensor([[[1, 0], [0, 1], [1, 1]]]), torch.ones(1, 3, dtype=torch.bool)
    assert pool.weights(h, valid)[0].tolist() == pytest.approx([0.471130, 0.103372, 0.425497], abs=1.5e-6)
    assert pool(h, valid)[0].tolist() == pytest.approx([0.896628, 0.528870], **CLOSE)
    assert pool.weights(h, torch.tensor([[True, False, True]]))[0, 1] == 0


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def gru_twin(xs, gru: nn.GRU, suffix: str):
    """One direction of a GRU in plain floats."""
    get = {n: getattr(gru, f"{n}_l0{suffix}").tolist() for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    units = len(get["bias_ih"]) // 3
    h, states = [0.0] * units, []
    for x in xs:
        a = [v + b for v, b in zip(times([x], get["weight_ih"])[0], get["bias_ih"], strict=True)]
        b = [v + c for v, c in zip(times([h], get["weight_hh"])[0], get["bias_hh"], strict=True)]
        reset = [sigmoid(a[i] + b[i]) for i in range(units)]
        update = [sigmoid(a[units + i] + b[units + i]) for i in range(units)]
        new = [math.tanh(a[2 * units + i] + reset[i] * b[2 * units + i]) for i in range(units)]
        h = [(1 - z) * n + z * old for z, n, old in zip(update, new, h, strict=True)]
        states.append(h)
    return states


def level_twin(xs, level):
    """BiGRU and attention over one sequence."""
    ahead = gru_twin(xs, level.gru, "")
    back = gru_twin(xs[::-1], level.gru, "_reverse")[::-1]
    hs = [a + b for a, b in zip(ahead, back, strict=True)]
    if level.pool is None:
        assert len(hs) == 1
        return hs[0]
    weight, bias, context = (
        level.pool.inner.weight.tolist(),
        level.pool.inner.bias.tolist(),
        level.pool.context.tolist(),
    )
    us = [[math.tanh(v + b) for v, b in zip(times([h], weight)[0], bias, strict=True)] for h in hs]
    alphas = softmax([sum(a * b for a, b in zip(u, context, strict=True)) for u in us])
    return [sum(a * h[c] for a, h in zip(alphas, hs, strict=True)) for c in range(len(hs[0]))]


def test_one_sentence_equals_its_twin() -> None:
    module = filled(HierarchicalAttention(4))
    x, lengths = random(3, 5, 4), (5, 2, 1)
    valid = torch.arange(5) < torch.tensor(lengths)[:, None]
    found = module(x, valid)
    for row, n in enumerate(lengths):
        sentence = level_twin(x[row, :n].tolist(), module.word)
        assert found[row].tolist() == pytest.approx(level_twin([sentence], module.sentence), abs=1e-9)


def test_many_sentences_equal_their_twin() -> None:
    """Sentences of unlike length, a gap of padding inside, and captions of unlike numbers of sentences."""
    module = filled(HierarchicalAttention(4, single=False))
    x = random(3, 6, 4)
    where = [[0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]]
    kept = [[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 0, 0]]
    found = module(x, torch.tensor(kept).bool(), torch.tensor(where))
    for row in range(3):
        tokens = [(s, x[row, i].tolist()) for i, (s, k) in enumerate(zip(where[row], kept[row], strict=True)) if k]
        sentences = [level_twin([t for s, t in tokens if s == n], module.word) for n in sorted({s for s, _ in tokens})]
        assert found[row].tolist() == pytest.approx(level_twin(sentences, module.sentence), abs=1e-9)


def test_padding_changes_nothing_and_gets_no_gradient() -> None:
    module = filled(HierarchicalAttention(4))
    x = random(2, 4, 4).requires_grad_()
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    found = module(x, valid)
    assert torch.allclose(found[1:], module(x[1:, :2], valid[1:, :2]), atol=1e-12)
    found.sum().backward()
    assert not x.grad[1, 2:].any() and x.grad[1, :2].any()


def test_caption_without_a_valid_token_is_zero() -> None:
    module = filled(HierarchicalAttention(4))
    valid = torch.tensor([[False, False], [True, True]])
    found = module(random(2, 2, 4), valid)
    assert not found[0].any() and found[1].any()
    assert not module(random(2, 2, 4), torch.zeros(2, 2, dtype=torch.bool)).any()


def test_hierarchical_attention_gradient() -> None:
    module = filled(HierarchicalAttention(2, single=False))
    valid, where = torch.tensor([[True] * 3, [True, True, False]]), torch.tensor([[0, 0, 1], [0, 1, 1]])
    assert torch.autograd.gradcheck(lambda x: module(x, valid, where), random(2, 3, 2).requires_grad_())


def test_single_sentence_trains_only_what_a_gradient_can_reach() -> None:
    module = HierarchicalAttention(4)
    module(torch.randn(3, 4, 4), torch.ones(3, 4, dtype=torch.bool)).square().sum().backward()
    idle = [n for n, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not idle and module.sentence.pool is None


# Bottleneck, gate, shared layer, hooks


def test_gate_blends() -> None:
    gate = Gate().double()
    share = 1 / (1 + math.exp(-0.6))
    assert gate(tensor([2.0]), tensor([1.0])).item() == pytest.approx(1 + share, abs=1e-7)


def make(kind: str, width: int = 6, inner: int = 4, shared: nn.Module | None = None) -> PlainAdapter:
    attention = {"image": lambda: DifferentialAttention(inner), "text": lambda: HierarchicalAttention(inner)}
    if kind == "plain":
        return PlainAdapter(width, inner, 0.2)
    return CrossModalAdapter(width, inner, 0.2, attention[kind](), shared)


@pytest.mark.parametrize("kind", ["plain", "image", "text"])
def test_adapters_start_at_zero_and_leave_padding_alone(kind: str) -> None:
    adapter = make(kind, shared=nn.Linear(4, 4))
    x, valid = torch.randn(2, 3, 6), torch.tensor([[True] * 3, [True, False, False]])
    assert not adapter(x, valid).any()
    filled(adapter)
    found = adapter(x.double(), valid)
    assert found.shape == x.shape and found[0].all() and not found[1, 1:].any()
    if kind == "text":
        assert torch.equal(found[0, 0], found[0, 2])


@pytest.mark.parametrize("kind", ["image", "text"])
def test_cross_modal_adapter_by_parts(kind: str) -> None:
    """down, GELU, attention, shared layer, gate, up, in this order."""
    shared = nn.Linear(4, 4)
    adapter = filled(make(kind, shared=shared))
    x, valid = random(2, 3, 6), torch.ones(2, 3, dtype=torch.bool)
    z = x @ adapter.down.weight.T + adapter.down.bias
    z = 0.5 * z * (1 + torch.erf(z / 2**0.5))
    a = adapter.attention(z) if kind == "image" else adapter.attention(z, valid)[:, None].expand(-1, 3, -1)
    b = a @ shared.weight.T + shared.bias
    share = 1 / (1 + math.exp(-adapter.gate.q.item()))
    up = (share * a + (1 - share) * b) @ adapter.up.weight.T + adapter.up.bias
    assert torch.allclose(adapter(x, valid), up, atol=1e-12)


def test_dropout_acts_in_training_only() -> None:
    adapter = filled(make("plain"))
    x, valid = random(2, 3, 6), torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(adapter(x, valid), adapter(x, valid))
    adapter.train()
    assert not torch.equal(adapter(x, valid), adapter(x, valid))


@pytest.mark.parametrize("tokens", [1, 5])
def test_shared_attention_starts_as_the_identity(tokens: int) -> None:
    module = SharedAttention(8)
    x = torch.randn(2, tokens, 8)
    assert torch.equal(module(x), x)
    assert not torch.equal(filled(module)(x.double()), x.double())


def test_shared_layer_is_one_for_both() -> None:
    shared = nn.Linear(4, 4)
    pair = nn.ModuleList([make("image", shared=shared), make("text", width=5, shared=shared)])
    assert sum(p is shared.weight for a in pair for p in a.parameters()) == 2


def test_hooks_add_inside_and_leave_no_trace() -> None:
    blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(2)).double()
    adapters = [filled(make("plain"), seed) for seed in (1, 2)]
    x = random(2, 3, 6)
    kind = torch.tensor([[CONTENT] * 3, [CONTENT, PAD, PAD]], dtype=torch.int8)
    plain = blocks[1](blocks[0](x))
    first = blocks[0](x) + adapters[0](blocks[0](x), kind != PAD)
    expected = blocks[1](first) + adapters[1](blocks[1](first), kind != PAD)
    with attached(blocks, adapters, kind):
        assert torch.equal(blocks[1](blocks[0](x)), expected)
    with pytest.raises(RuntimeError, match="stop"), attached(blocks, adapters, None):
        raise RuntimeError("stop")
    assert torch.equal(blocks[1](blocks[0](x)), plain)
    assert not any(b._forward_hooks for b in copy.deepcopy(blocks))
