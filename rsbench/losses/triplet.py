"""Triplet ranking loss with in-batch negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from rsbench.losses.reduce import not_negative


def triplet(scores: Tensor, margin: float = 0.2, hardest: bool = True) -> Tensor:
    """Hinge per pair in both directions, ``[B]``; summed over the batch it is the loss of VSE++ (or VSE0).

    ``hardest``: max_j [m + S_ij - S_ii]_+ + max_j [m + S_ji - S_ii]_+ over j != i; else the sums over j.

    Args:
        scores: ``[B, B]``, images by texts; the diagonal holds the shown pairs.
        margin: m, in units of the score.
        hardest: only the hardest negative of each direction.

    Source: VSE++ (Faghri et al. 2018) Eq. 5 and 6; fartashf/vsepp model.py.
    """
    positive = scores.diagonal()
    blocked = not_negative(len(scores), scores.device)
    if hardest:
        negatives = scores.masked_fill(blocked, float("-inf"))
        rows, columns = negatives.max(1).values, negatives.max(0).values
        return (margin + rows - positive).relu() + (margin + columns - positive).relu()
    open_rows = (margin + scores - positive[:, None]).relu().masked_fill(blocked, 0.0)
    open_columns = (margin + scores - positive[None, :]).relu().masked_fill(blocked, 0.0)
    return torch.add(open_rows.sum(1), open_columns.sum(0))
