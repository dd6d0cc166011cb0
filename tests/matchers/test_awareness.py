"""Positive-negative awareness: the card's vector, a twin in plain floats, gradients, masks."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch

from rsbench.backbones.base import CONTENT, PAD, Features
from rsbench.matchers.awareness import POS_MASKS, RELEVANCES, Reading, awareness, pairwise_awareness

WORDS = [[1.0, 0.0], [0.0, 1.0], [-0.6, -0.8]]
REGIONS = [[0.8, 0.6], [0.0, 1.0], [0.6, 0.8]]
READINGS = [Reading(*how) for how in itertools.product(POS_MASKS, RELEVANCES, (20.0, 3.0), (True, False))]


def of(samples: list[list[list[float]]], width: int = 0) -> Features:
    """Features of samples of different lengths, padded."""
    longest, dim = max(width, *(len(s) for s in samples)), len(samples[0][0])
    tokens = torch.tensor([s + [[0.0] * dim] * (longest - len(s)) for s in samples], dtype=torch.float64)
    kind = torch.tensor([[CONTENT] * len(s) + [PAD] * (longest - len(s)) for s in samples], dtype=torch.int8)
    return Features(tokens[:, 0], tokens, kind)


def some(count: int, lengths: tuple[int, int], dim: int, seed: int) -> list[list[list[float]]]:
    draw = random.Random(seed)
    return [[[draw.gauss(0.4, 1) for _ in range(dim)] for _ in range(draw.randint(*lengths))] for _ in range(count)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cos(a, b):
    size = math.sqrt(dot(a, a) * dot(b, b))
    return dot(a, b) / size if size else 0.0


def softmax(x):
    top = [math.exp(v) for v in x]
    return [v / sum(top) for v in top]


def attention_weights(row, t, how):
    if how.pos_mask == "binary":
        return softmax([1.0 if s > t else 0.0 for s in row])
    if how.pos_mask == "multiply":
        return softmax([s - t if s > t else 0.0 for s in row])
    kept = [math.exp(how.factor * (s - t)) if s > t else 0.0 for s in row]
    return [k / sum(kept) for k in kept] if sum(kept) else kept


def twin(words, regions, t, how):
    """(S, mean of sneg) of one pair, step by step as the card writes it."""
    s = [[cos(u, v) for v in regions] for u in words]
    r = [[x if x > 0 else 0.1 * x for x in row] for row in s] if how.relev == "naaf" else s
    size = [math.sqrt(sum(row[j] ** 2 for row in r)) if how.relev == "naaf" else 1.0 for j in range(len(regions))]
    total = below = 0.0
    for u, row, rel in zip(words, s, r, strict=True):
        w = attention_weights(row, t, how)
        attended = [sum(wj * v[k] for wj, v in zip(w, regions, strict=True)) for k in range(len(u))]
        share = softmax([how.factor * x / n for x, n in zip(rel, size, strict=True)])
        negative = min(max(row) - t, 0.0)
        below += negative
        total += cos(u, attended) + dot(share, row) + (negative if how.negative else 0.0)
    return total / len(words), below / len(words)


@pytest.mark.parametrize(
    ("pos_mask", "relev", "score"),
    [
        ("neginf", "naaf", 0.396002),
        ("neginf", "plain", 0.427666),
        ("binary", "naaf", -0.020674),
        ("binary", "plain", 0.010991),
        ("multiply", "naaf", -0.066870),
        ("multiply", "plain", -0.035206),
    ],
)
def test_vector_4(pos_mask, relev, score):
    found = awareness(of([REGIONS]), of([WORDS]), 0.7, Reading(pos_mask, relev))
    assert float(found.score) == pytest.approx(score, abs=1e-6)
    assert found.best[0, :, 0].tolist() == pytest.approx([0.8, 1.0, -0.8], abs=1e-12)
    assert float(found.negative) == pytest.approx(-1.5 / 3, abs=1e-12)


@pytest.mark.parametrize("how", READINGS, ids=str)
@pytest.mark.parametrize("t", [0.0, 0.35, 0.97])
def test_scores_equal_their_plain_twin(how, t):
    images, texts = some(4, (1, 4), 3, 1), some(5, (1, 6), 3, 2)
    found = awareness(of(images), of(texts, width=8), t, how)
    for (i, regions), (j, words) in itertools.product(enumerate(images), enumerate(texts)):
        score, below = twin(words, regions, t, how)
        assert float(found.score[i, j]) == pytest.approx(score, rel=1e-9, abs=1e-9)
        assert float(found.negative[i, j]) == pytest.approx(below, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("how", READINGS, ids=str)
def test_pairwise_form_equals_the_shared_one(how):
    image, text = of(some(3, (2, 4), 3, 3)), of(some(4, (1, 5), 3, 4))
    v = image.tokens[:, None].expand(-1, 4, -1, -1)
    u = text.tokens[None].expand(3, -1, -1, -1)
    found = pairwise_awareness(v, u, image.kind == CONTENT, text.kind == CONTENT, 0.3, how)
    shared = awareness(image, text, 0.3, how)
    assert torch.allclose(found.score, shared.score, atol=1e-9)
    assert torch.allclose(found.best, shared.best, atol=1e-12)


def test_pairwise_form_reads_each_pair_by_itself():
    images, texts = some(2, (3, 3), 3, 5), some(2, (4, 4), 3, 6)
    v = torch.stack([of([images[0], images[1]]).tokens, of([images[1], images[0]]).tokens])
    u = torch.stack([of([texts[0], texts[1]]).tokens, of([texts[1], texts[0]]).tokens])
    real = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool)
    found = pairwise_awareness(v, u, *real, 0.2, Reading()).score
    for a, b in itertools.product(range(2), range(2)):
        own = [images, images[::-1]][a][b], [texts, texts[::-1]][a][b]
        assert float(found[a, b]) == pytest.approx(twin(own[1], own[0], 0.2, Reading())[0], abs=1e-9)


@pytest.mark.parametrize("how", READINGS[::2], ids=str)
def test_gradients(how):
    v, u = (of(some(2, (3, 3), 3, 7)).tokens, of(some(2, (2, 2), 3, 8)).tokens)

    def scores(v, u):
        kinds = [torch.zeros(x.shape[:2], dtype=torch.int8) for x in (v, u)]
        return awareness(Features(v[:, 0], v, kinds[0]), Features(u[:, 0], u, kinds[1]), 0.3, how).score

    assert torch.autograd.gradcheck(scores, (v.requires_grad_(), u.requires_grad_()))


def test_a_word_below_the_boundary_has_a_finite_gradient():
    image, text = of([REGIONS]), of([[[-1.0, -0.2]]])
    text.tokens.requires_grad_()
    awareness(image, text, 0.7, Reading()).score.sum().backward()
    assert text.tokens.grad.isfinite().all() and text.tokens.grad.any()


def test_the_negative_part_lowers_only_words_below_the_boundary():
    image, text = of([REGIONS]), of([WORDS])
    full, bare = (awareness(image, text, 0.7, Reading(negative=n)) for n in (True, False))
    assert float(full.score - bare.score) == pytest.approx(-0.5)


def test_lengths_of_words_do_not_matter_but_those_of_regions_do():
    image, text = of([REGIONS]), of([[[0.9, 0.7]]])
    score = awareness(image, text, 0.5, Reading()).score
    longer = Features(text.pooled, 7 * text.tokens, text.kind)
    assert torch.allclose(awareness(image, longer, 0.5, Reading()).score, score)
    uneven = Features(image.pooled, image.tokens * torch.tensor([[[1.0], [5.0], [1.0]]]), image.kind)
    assert not torch.allclose(awareness(uneven, text, 0.5, Reading()).score, score)
