"""Self-paced weights from the size of a pair's loss. Source: RRSITR (CVPR 2026) Eq. 7 and 14; loss/CLIP.py."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def divide(loss: Tensor, gamma1: float, gamma2: float) -> Tensor:
    """Disjoint sets by loss, int8 ``[B]``: 0 below gamma1 (clean), 1 from there (ambiguous), 2 from gamma2 (noisy).

    Args:
        loss: ``[B]``, one value per pair.
        gamma1: upper bound of clean losses.
        gamma2: upper bound of ambiguous losses; with ``gamma2 = gamma1`` nothing is ambiguous.
    """
    return (loss >= gamma1).to(torch.int8) + (loss >= gamma2).to(torch.int8)


@torch.no_grad()
def easy_first(loss: Tensor, gamma: Tensor) -> Tensor:
    """``w = cos(pi/2 * l/gamma)`` where ``l < gamma``, else 0, ``[B]``, detached (RRSITR Eq. 14).

    Args:
        loss: l ``[B]``.
        gamma: broadcast to ``[B]``: the pair's own bound.
    """
    return (0.5 * math.pi * loss / gamma).cos().clamp(0, 1).where(loss < gamma, 0.0)


@torch.no_grad()
def hard_first(loss: Tensor, gamma: Tensor) -> Tensor:
    """``w = sin(pi/2 * l/gamma)`` where ``l < gamma``, else 0: the order reversed; see ``easy_first``."""
    return (0.5 * math.pi * loss / gamma).sin().clamp(0, 1).where(loss < gamma, 0.0)


@torch.no_grad()
def regulariser(weight: Tensor, loss: Tensor, gamma: Tensor) -> Tensor:
    """``R = -2/pi * gamma * (w arccos w - sqrt(1 - w^2))`` where ``l < gamma``, else 0, ``[B]`` (RRSITR Eq. 7).

    The weight of ``easy_first`` is the minimiser of ``w*l + R(w)``. It is a constant of the step: no gradient.

    Args:
        weight: w ``[B]`` in [0, 1].
        loss: l ``[B]``.
        gamma: broadcast to ``[B]``.
    """
    found = -2 / math.pi * gamma * (weight * weight.arccos() - (1 - weight.square()).clamp(min=0).sqrt())
    return found.where(loss < gamma, 0.0)
