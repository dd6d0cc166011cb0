"""Triplet ranking losses with in-batch negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from rsbench.losses.energy import hardest_negative
from rsbench.losses.reduce import both_directions, not_negative


def triplet(scores: Tensor, margin: float = 0.2, hardest: bool = True, same_image: Tensor | None = None) -> Tensor:
    """Hinge per pair in both directions, ``[B]``; summed over the batch it is the loss of VSE++ (or VSE0).

    ``hardest``: max_j [m + S_ij - S_ii]_+ + max_j [m + S_ji - S_ii]_+ over j != i; else the sums over j.

    Args:
        scores: ``[B, B]``, images by texts; the diagonal holds the shown pairs.
        margin: m, in units of the score.
        hardest: only the hardest negative of each direction.
        same_image: ids of the given images ``[B]`` if same-image entries are no negatives, else None.

    Source: VSE++ (Faghri et al. 2018) Eq. 5 and 6; fartashf/vsepp model.py.
    """
    positive = scores.diagonal()
    blocked = not_negative(len(scores), scores.device, same_image)
    if hardest:
        negatives = scores.masked_fill(blocked, float("-inf"))
        rows, columns = negatives.max(1).values, negatives.max(0).values
        return (margin + rows - positive).relu() + (margin + columns - positive).relu()
    open_rows = (margin + scores - positive[:, None]).relu().masked_fill(blocked, 0.0)
    open_columns = (margin + scores - positive[None, :]).relu().masked_fill(blocked, 0.0)
    return torch.add(open_rows.sum(1), open_columns.sum(0))


def robust_triplet(
    scores: Tensor,
    sigma: float,
    adaptive: bool = True,
    detach_margin: bool = False,
    same_image: Tensor | None = None,
) -> Tensor:
    """Hinge on the hardest negative of both directions, with a margin that grows with the violation, ``[B]``.

    ``[mu_i - S_ii + h_i]_+`` per direction, where ``h_i`` is the hardest negative and
    ``mu_i = sigma * (1 + [h_i - S_ii]_+)``. A row without negatives counts 0.

    Args:
        scores: ``[B, B]``, images by texts; the diagonal holds the shown pairs.
        sigma: smallest margin, in units of the score.
        adaptive: let the margin grow; else it is sigma.
        detach_margin: no gradient through the margin.
        same_image: ids of the given images ``[B]`` if same-image entries are no negatives, else None.

    Source: RRSITR (CVPR 2026) Eq. 8 and 9; MSFLabX/RRSITR loss/CLIP.py.
    """
    blocked = not_negative(len(scores), scores.device, same_image)
    hardest, _ = hardest_negative(both_directions(scores), blocked)
    excess = hardest - scores.diagonal()
    growth = excess.detach() if detach_margin else excess
    margin = sigma * (1 + growth.relu()) if adaptive else sigma
    return (margin + excess).relu().sum(0)
