from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsbench.errors import NonFiniteError, UsageError
from rsbench.evaluation import ranks as module
from rsbench.evaluation.ranks import ranks_of_blocks, ranks_of_embeddings


def naive(scores, caption_image):
    """Ranks by the definition, one comparison at a time."""
    n, m = len(scores), len(scores[0])

    def rank(values, own):
        return sum(v > values[own] or (v == values[own] and i < own) for i, v in enumerate(values))

    i2t = [min(rank(scores[i], c) for c in range(m) if caption_image[c] == i) for i in range(n)]
    t2i = [rank([scores[i][c] for i in range(n)], caption_image[c]) for c in range(m)]
    return i2t, t2i


def check(found, scores, caption_image):
    i2t, t2i = naive(scores.tolist(), caption_image.tolist())
    assert found.i2t.tolist() == i2t
    assert found.t2i.tolist() == t2i
    assert found.i2t.dtype == found.t2i.dtype == torch.int64


def blocks(scores):
    return lambda start, stop: scores[start:stop].clone()


@st.composite
def problems(draw):
    n = draw(st.integers(1, 9))
    counts = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    owner = [i for i, k in enumerate(counts) for _ in range(k)]
    if draw(st.booleans()):
        owner = draw(st.permutations(owner))
    seed, levels = draw(st.integers(0, 10**6)), draw(st.sampled_from([1, 2, 4, 1000]))
    scores = np.random.default_rng(seed).integers(-levels, levels, size=(n, len(owner)))
    return torch.tensor(scores, dtype=torch.float32), torch.tensor(owner), draw(st.integers(1, 5))


@settings(max_examples=150, deadline=None)
@given(problems(), st.sampled_from([0, 40, 10**9]))
def test_blocks_agree_with_the_definition_whatever_is_kept(problem, stash):
    scores, owner, block = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STASH_BYTES", stash)
        check(ranks_of_blocks(blocks(scores), len(scores), owner, block), scores, owner)


@settings(max_examples=150, deadline=None)
@given(problems(), st.sampled_from([-1.0, 0.02, 2.0]), st.integers(1, 6))
def test_embeddings_with_ties_agree_with_the_definition(problem, band, dim):
    grid, owner, block = problem
    generator = torch.Generator().manual_seed(int(grid.sum()))
    image = torch.randint(-2, 3, (len(grid), dim), generator=generator).float()  # integers: every product is exact
    text = torch.randint(-2, 3, (len(owner), dim), generator=generator).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BAND_SHARE", band)
        check(ranks_of_embeddings(image, text, owner, block), image @ text.T, owner)


def test_each_block_is_scored_once_when_memory_allows():
    scores, owner, asked = torch.randn(20, 60), torch.arange(20).repeat_interleave(3), []

    def score(start, stop):
        asked.append(start)
        return scores[start:stop]

    check(ranks_of_blocks(score, 20, owner, 4), scores, owner)
    assert asked == [0, 4, 8, 12, 16]


@pytest.mark.parametrize("wrong", [0.0, 5.0, float("nan")])
def test_a_wrong_guess_is_noticed(monkeypatch, wrong):
    image, text = torch.randn(30, 8), torch.randn(90, 8)
    owner = torch.arange(30).repeat_interleave(3)
    bounds = torch.full((90,), wrong)
    monkeypatch.setattr(module, "_guess", lambda *_: module._Guess(bounds, bounds))
    check(ranks_of_embeddings(image, text, owner, 7), image @ text.T, owner)


@pytest.mark.parametrize("shuffled", [False, True])
def test_real_valued_products_agree_with_the_same_blocks(shuffled):
    generator = torch.Generator().manual_seed(3)
    image, text = torch.randn(150, 33, generator=generator), torch.randn(451, 33, generator=generator)
    owner = torch.cat([torch.arange(150).repeat_interleave(3), torch.tensor([149])])
    text[200:260] = text[17]  # identical captions of many images
    if shuffled:
        owner = owner[torch.randperm(451, generator=generator)]
    distinct, column = text.unique(dim=0, return_inverse=True)
    del distinct
    found = ranks_of_embeddings(image, text, owner, block=64)
    kept, rows = module._distinct_rows(text)
    assert len(kept) == len(set(column.tolist())) == 391
    scores = torch.cat([(image[a : a + 64] @ kept.T)[:, rows] for a in range(0, 150, 64)])
    check(found, scores, owner)


def test_rows_that_share_a_key_are_told_apart(monkeypatch):
    monkeypatch.setattr(torch, "randint", lambda *a, **k: torch.zeros(a[2], dtype=torch.int32))
    text = torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])  # keys become sums, which are equal
    kept, rows = module._distinct_rows(text)
    assert torch.equal(kept[rows], text)
    assert len(kept) == 2


def test_a_collapsed_model_gains_nothing():
    found = ranks_of_embeddings(torch.ones(20, 4), torch.ones(100, 4), torch.arange(20).repeat_interleave(5))
    assert found.i2t.tolist() == [5 * i for i in range(20)]
    assert found.t2i.tolist() == [i for i in range(20) for _ in range(5)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_first_score_that_is_not_finite_is_named(value):
    scores = torch.zeros(6, 12)
    scores[4, 7] = scores[5, 1] = value
    with pytest.raises(NonFiniteError, match="image 4 and caption 7"):
        ranks_of_blocks(blocks(scores), 6, torch.arange(6).repeat_interleave(2), 2)


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ([0, 0, 2], "image 1 has no caption"),
        ([0, 1, 3], "a caption belongs to image 3"),
        ([0, 1, -1, 2], "a caption belongs to image -1"),
        ([], "3 images and 0 captions"),
    ],
)
def test_captions_that_do_not_fit_are_refused(owner, message):
    owner = torch.tensor(owner, dtype=torch.int64)
    with pytest.raises(UsageError, match=message):
        ranks_of_blocks(blocks(torch.zeros(3, len(owner))), 3, owner)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="have shape"):
        ranks_of_blocks(blocks(torch.zeros(3, 4)), 3, torch.arange(3))
    with pytest.raises(UsageError, match="do not fit"):
        ranks_of_embeddings(torch.zeros(3, 4), torch.zeros(3, 5), torch.arange(3))


def test_progress_is_told():
    seen = []
    ranks_of_blocks(blocks(torch.zeros(5, 5)), 5, torch.arange(5), 2, lambda *a: seen.append(a))
    assert seen == [("ranking", 2, 5), ("ranking", 4, 5), ("ranking", 5, 5)]
