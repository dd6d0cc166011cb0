from __future__ import annotations

import pytest
import torch

from rsbench.errors import UsageError
from rsbench.evaluation.ranks import Ranks, ranks_of_blocks
from rsbench.evaluation.retrieval import fold_metrics, metrics


def test_metrics_by_hand():
    ranks = Ranks(torch.tensor([0, 4, 5, 9]), torch.tensor([0, 0, 10, 3, 7]))
    found = metrics(ranks, torch.tensor([0, 1, 2, 3, 3]))
    assert found == pytest.approx(
        {
            "i2t_r1": 25.0, "i2t_r5": 50.0, "i2t_r10": 100.0,
            "t2i_r1": 40.0, "t2i_r5": 60.0, "t2i_r10": 80.0,
            "mr": 355 / 6, "rsum": 355.0, "i2t_medr": 5.5, "t2i_medr": 4.0,
        }
    )  # fmt: skip


def test_folds_rank_within_their_own_images_and_captions():
    generator = torch.Generator().manual_seed(0)
    scores, owner = torch.randn(20, 50, generator=generator), torch.arange(20).repeat(3)[:50]
    found = fold_metrics(lambda a, b: scores[a:b], 20, owner, folds=4, block=3)
    by_hand = []
    for k in range(4):
        columns = [c for c in range(50) if owner[c] // 5 == k]
        own = owner[columns] - 5 * k
        part = scores[5 * k : 5 * k + 5][:, columns]
        by_hand.append(metrics(ranks_of_blocks(lambda a, b, p=part: p[a:b], 5, own), own))
    for key in found:
        assert found[key] == pytest.approx(sum(m[key] for m in by_hand) / 4)
    six = [found[k] for k in found if "_r" in k]
    assert found["rsum"] == pytest.approx(sum(six))
    assert found["mr"] == pytest.approx(sum(six) / 6)


def test_unequal_folds_are_refused():
    with pytest.raises(UsageError, match="cannot be cut into 3 equal folds"):
        fold_metrics(lambda a, b: torch.zeros(b - a, 20), 20, torch.arange(20), folds=3)


def test_ranks_of_another_table_are_refused():
    with pytest.raises(UsageError, match="do not fit a table of 2 captions"):
        metrics(Ranks(torch.zeros(3), torch.zeros(3)), torch.tensor([0, 1]))
