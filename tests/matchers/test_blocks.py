"""Block-wise scores and the content tokens they are made of."""

from __future__ import annotations

import pytest
import torch

from rsbench.backbones.base import CONTENT, PAD, SPECIAL, Features
from rsbench.matchers.blocks import in_blocks
from rsbench.matchers.cosine import cosine
from rsbench.matchers.fragments import fragments, mean_fragment, without_content


def rows(n: int, seed: int) -> Features:
    return Features(torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(("a", "b"), [(1, 1), (3, 2), (7, 5), (2, 100), (100, 2), (100, 100)])
def test_blocks_equal_the_whole_and_stay_within_their_bound(a, b):
    image, text, seen = rows(7, 0), rows(5, 1), []

    def score(x: Features, y: Features) -> torch.Tensor:
        seen.append((len(x), len(y)))
        return cosine(x, y)

    assert torch.allclose(in_blocks(score, image, text, a, b), cosine(image, text), atol=1e-6)
    assert all(n <= a and m <= b for n, m in seen)
    assert sum(n * m for n, m in seen) == 35


def test_no_rows_give_an_empty_matrix():
    assert in_blocks(cosine, rows(0, 0), rows(3, 1), 2, 2).shape == (0, 3)
    assert in_blocks(cosine, rows(5, 0), rows(0, 1), 2, 2).shape == (5, 0)


def test_fragments_drop_special_and_padding_tokens():
    tokens = torch.arange(24.0).view(2, 6, 2) + 1
    kind = torch.tensor(
        [[SPECIAL, CONTENT, CONTENT, SPECIAL, PAD, PAD], [SPECIAL, CONTENT, CONTENT, CONTENT, SPECIAL, PAD]]
    )
    found = fragments(Features(tokens[:, 0], tokens, kind.to(torch.int8)))
    assert found.tokens.shape == (2, 3, 2)
    assert torch.equal(found.tokens[0], torch.stack((tokens[0, 1], tokens[0, 2], torch.zeros(2))))
    assert torch.equal(found.tokens[1], tokens[1, 1:4])
    assert found.kind.tolist() == [[CONTENT, CONTENT, PAD], [CONTENT] * 3]
    assert torch.allclose(mean_fragment(found)[0], (tokens[0, 1] + tokens[0, 2]) / 2)


def test_a_row_without_content_stands_with_its_pooled_vector():
    tokens, pooled = torch.randn(2, 3, 4), torch.randn(2, 4)
    for kinds in ([[SPECIAL, PAD, PAD], [SPECIAL, CONTENT, PAD]], [[SPECIAL, PAD, PAD], [SPECIAL, SPECIAL, PAD]]):
        features = Features(pooled, tokens, torch.tensor(kinds, dtype=torch.int8))
        found = fragments(features)
        assert torch.equal(found.tokens[0, 0], pooled[0])
        assert found.kind[0].tolist() == [CONTENT] + [PAD] * (found.tokens.shape[1] - 1)
        assert without_content(features).tolist() == [True, kinds[1][1] != CONTENT]


def test_half_precision_tokens_are_widened():
    kind = torch.zeros(2, 3, dtype=torch.int8)
    found = fragments(Features(torch.randn(2, 4).half(), torch.randn(2, 3, 4).half(), kind))
    assert found.tokens.dtype == found.pooled.dtype == torch.float32
