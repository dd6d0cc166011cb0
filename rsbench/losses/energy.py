"""Energy and entropy of rows of logits: who is clean, and how much a pair counts. Source: SREM (AAAI 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rsbench.losses.reduce import widened


def energy(logits: Tensor) -> Tensor:
    """``E_i = -logsumexp_j G_ij`` over the whole row, ``[..., B]``; high = uncertain (SREM Eq. 1)."""
    return -widened(logits).logsumexp(-1)


def normalised_entropy(logits: Tensor) -> Tensor:
    """Entropy of each row's softmax over log B, in [0, 1], ``[..., B]``; 0 for B = 1 (SREM Eq. 4)."""
    n = logits.shape[-1]
    entropy: Tensor = torch.special.entr(widened(logits).softmax(-1)).sum(-1)
    return entropy / (math.log(n) if n > 1 else 1.0)


def hardest_negative(logits: Tensor, blocked: Tensor) -> tuple[Tensor, Tensor]:
    """Largest logit of each row among its negatives, and its column (SREM Eq. 5, phi); the first of equals.

    Args:
        logits: ``[..., B, B]``.
        blocked: bool ``[B, B]``, entries that are no negatives.

    Returns:
        Values ``[..., B]`` (-inf in a row without negatives) and columns, int64 ``[..., B]``.
    """
    found = logits.masked_fill(blocked, float("-inf")).max(-1)
    return found.values, found.indices


def own_is_first(logits: Tensor, hardest: Tensor, column: Tensor) -> Tensor:
    """Whether the first maximum of each row is its own pair, bool ``[..., B]``.

    Args:
        logits: ``[..., B, B]``.
        hardest: values of ``hardest_negative``.
        column: columns of ``hardest_negative``.
    """
    own = logits.diagonal(dim1=-2, dim2=-1)
    index = torch.arange(logits.shape[-1], device=logits.device)
    return (own > hardest) | ((own == hardest) & (index < column))


def energy_bound(energies: Tensor, clean: Tensor, m_clean: float, m_noisy: float) -> Tensor:
    """Squared hinge per row: clean energies below ``m_clean``, noisy ones above ``m_noisy`` (SREM Eq. 3).

    Args:
        energies: ``[..., B]``.
        clean: bool ``[..., B]``.
        m_clean: upper bound of clean energies.
        m_noisy: lower bound of noisy energies.
    """
    return (energies - m_clean).where(clean, m_noisy - energies).relu().square()


def margin_weight(entropy: Tensor, positive: Tensor, hardest: Tensor, margin: float) -> Tensor:
    """``w_i = 1 - e_i`` where the margin is violated, else 1, ``[..., B]``, detached (SREM Eq. 5).

    Args:
        entropy: normalised entropy ``[..., B]``.
        positive: scores S_ii.
        hardest: scores of the hardest negatives.
        margin: alpha.
    """
    violated = margin - positive.detach() + hardest.detach() > 0
    return 1 - entropy.detach() * violated


def weighted_hinge(weight: Tensor, positive: Tensor, hardest: Tensor, margin: float) -> Tensor:
    """``[alpha - w_i S_ii + S_i,phi(i)]_+`` per row, ``[..., B]`` (SREM Eq. 6)."""
    return (margin - weight * positive + hardest).relu()
