"""Local similarity: card vector, both forms, masks, blocks and gradients."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsbench.backbones.base import CONTENT, PAD, SPECIAL, Features
from rsbench.matchers.blocks import in_blocks
from rsbench.matchers.local import (
    block_rows,
    frobenius,
    frobenius_direct,
    frobenius_gram,
    local_similarity,
    prefers_gram,
    unit_tokens,
)

FORMS = (frobenius_direct, frobenius_gram)


def features(tokens, kind=None, hidden=None):
    tokens = torch.as_tensor(tokens, dtype=torch.float64)
    kind = torch.zeros(tokens.shape[:2], dtype=torch.int8) if kind is None else torch.tensor(kind, dtype=torch.int8)
    return Features(tokens[:, 0], tokens, kind, hidden)


def random_tokens(n, length, dim, seed):
    draw = random.Random(seed)
    return [[[draw.gauss(0, 1) for _ in range(dim)] for _ in range(length)] for _ in range(n)]


def naive(patches, tokens):
    """Norm over the text tokens, then over the patches, in plain floats."""

    def cos(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    return math.sqrt(sum(math.sqrt(sum(cos(t, v) ** 2 for t in tokens)) ** 2 for v in patches))


def test_vector_2():
    image, text = features([[[3.0, 4.0], [-1.0, 0.0]]]), features([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
    assert local_similarity(image, text).tolist() == [[pytest.approx(1.865476, abs=1e-6)]]
    ones = [torch.ones(*f.tokens.shape[:2], dtype=torch.bool) for f in (image, text)]
    units = [unit_tokens(f.tokens, counted) for f, counted in zip((image, text), ones, strict=True)]
    for form in FORMS:
        assert form(*units).tolist() == [[pytest.approx(1.865476, abs=1e-6)]]


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 4),
    m=st.integers(1, 4),
    p=st.integers(1, 5),
    count=st.integers(1, 6),
    dim=st.integers(1, 6),
    seed=st.integers(0, 10_000),
)
def test_both_forms_equal_the_plain_twin(n, m, p, count, dim, seed):
    v, t = random_tokens(n, p, dim, seed), random_tokens(m, count, dim, seed + 1)
    expected = [[naive(vi, tj) for tj in t] for vi in v]
    units = [torch.nn.functional.normalize(torch.tensor(x, dtype=torch.float64), dim=-1) for x in (v, t)]
    for form in (*FORMS, frobenius):
        for row, wanted in zip(form(*units).tolist(), expected, strict=True):
            assert row == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_gradients(form):
    v, t = (torch.tensor(random_tokens(2, 3, 4, s), dtype=torch.float64, requires_grad=True) for s in (1, 2))
    counted = torch.ones(2, 3, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda a, b: form(unit_tokens(a, counted), unit_tokens(b, counted)), (v, t))


def test_both_forms_have_the_same_gradient():
    grads = []
    for form in FORMS:
        v, t = (torch.tensor(random_tokens(3, 4, 5, s), dtype=torch.float64, requires_grad=True) for s in (1, 2))
        form(v, t).square().sum().backward()
        grads.append((v.grad, t.grad))
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(*grads, strict=True))


def test_only_patches_of_the_image_count_and_every_position_of_the_text():
    v, t = random_tokens(1, 3, 4, 1), random_tokens(1, 4, 4, 2)
    image, text = features(v, [[SPECIAL, CONTENT, CONTENT]]), features(t, [[SPECIAL, CONTENT, SPECIAL, PAD]])
    assert float(local_similarity(image, text)) == pytest.approx(naive(v[0][1:], t[0]), abs=1e-10)


def test_padding_is_left_out_where_asked_for_or_where_the_tower_says_nothing():
    v, t = random_tokens(1, 2, 3, 1), random_tokens(1, 4, 3, 2)
    kind = [[SPECIAL, CONTENT, PAD, PAD]]
    hidden = torch.ones(1, 4, 5)
    hidden[0, 3] = 0  # the second padded position is empty
    image = features(v)
    expected = {"never": t[0], "empty": t[0][:3], "always": t[0][:2]}
    for padding, kept in expected.items():
        found = local_similarity(image, features(t, kind, hidden), padding)
        assert float(found) == pytest.approx(naive(v[0], kept), abs=1e-10)
    assert float(local_similarity(image, features(t, kind))) == pytest.approx(naive(v[0], t[0]), abs=1e-10)


def test_an_empty_word_that_is_no_padding_counts():
    v, t = random_tokens(1, 2, 3, 1), random_tokens(1, 2, 3, 2)
    found = local_similarity(features(v), features(t, [[CONTENT, CONTENT]], torch.zeros(1, 2, 5)))
    assert float(found) == pytest.approx(naive(v[0], t[0]), abs=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_to_compare_is_zero_with_finite_gradients(form):
    v, t = (torch.tensor(random_tokens(2, 3, 4, s), dtype=torch.float64, requires_grad=True) for s in (1, 2))
    counted = torch.tensor([[False] * 3, [True] * 3])
    found = form(unit_tokens(v, counted), unit_tokens(t, ~counted))
    found.sum().backward()
    rows = found.tolist()
    assert rows[0] == [0, 0] and rows[1][1] == 0 and rows[1][0] > 0
    assert v.grad.isfinite().all() and t.grad.isfinite().all()


def test_blocks_equal_the_whole_and_both_forms_are_used():
    image, text = features(random_tokens(9, 3, 4, 1)), features(random_tokens(11, 5, 4, 2))
    whole = local_similarity(image, text)
    assert prefers_gram(9, 11, 3, 5, 4) and not prefers_gram(1, 1, 3, 5, 4)
    for rows in ((1, 1), (2, 4), (9, 3)):
        assert torch.allclose(in_blocks(local_similarity, image, text, *rows), whole, atol=1e-10)


@pytest.mark.parametrize(("patches", "tokens", "dim"), [(49, 77, 512), (16, 18, 64), (36, 33, 64), (3, 4, 512)])
def test_blocks_bound_the_largest_intermediate_tensor(patches, tokens, dim):
    values = 2**20
    image, text = (features(torch.zeros(1, length, dim)) for length in (patches, tokens))
    rows = block_rows(image, text, values)
    used = rows * dim**2 if prefers_gram(rows, rows, patches, tokens, dim) else rows**2 * patches * tokens
    assert rows >= 1 and used <= values


def test_the_form_follows_the_sizes():
    assert prefers_gram(128, 128, 16, 18, 64) and prefers_gram(100, 100, 49, 77, 512)
    assert not prefers_gram(8, 8, 49, 77, 512) and not prefers_gram(100, 100, 4, 5, 512)


def test_half_precision_is_widened():
    image, text = features(random_tokens(2, 3, 4, 1)), features(random_tokens(2, 5, 4, 2))
    found = local_similarity(image.map(torch.Tensor.half), text.map(torch.Tensor.half))
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), local_similarity(image, text), atol=1e-2)
