"""Margin loss on a matrix of scores whose negatives may be left out."""

from __future__ import annotations

from torch import Tensor

from rsbench.losses.reduce import both_directions


def margin_ranking(scores: Tensor, margin: float, blocked: Tensor, hardest: bool = True) -> Tensor:
    """``[g - S_ii + S_ij]_+ + [g - S_ii + S_ji]_+`` per pair, ``[B]``, of the hardest j or summed over all; 0 without.

    Args:
        scores: ``[B, B]``; the diagonal holds the shown pairs.
        margin: g, in units of the score.
        blocked: bool ``[B, B]``, symmetric: entries that are no negatives.
        hardest: only the hardest negative of each direction.

    Source: PMPGuard (AAAI 2026) Eq. 15; CrossmodalGroup/NAAF model.py:519-523 for the hardest.
    """
    open_margin = both_directions(scores).sub(scores.diagonal()[:, None]).add(margin).relu().masked_fill(blocked, 0.0)
    return (open_margin.amax(-1) if hardest else open_margin.sum(-1)).sum(0)
