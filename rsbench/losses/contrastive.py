"""Losses on in-batch softmax probabilities: InfoNCE, and complementary losses that read negatives only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rsbench.losses.reduce import not_negative, widened

SMALLEST = 1e-30
"""Floor of a probability before its log; reached only when one logit leads by more than 69."""


def info_nce(logits: Tensor) -> Tensor:
    """Symmetric InfoNCE per pair, ``[B]``: half the cross entropy of row i plus half that of column i.

    Args:
        logits: ``[B, B]``, scores divided by the temperature; the diagonal holds the shown pairs.

    Source: CLIP (Radford et al. 2021), Figure 3.
    """
    logits = widened(logits)
    return 0.5 * (logits.logsumexp(1) + logits.logsumexp(0)) - logits.diagonal()


def joint_nce(logits: Tensor) -> Tensor:
    """InfoNCE whose denominator joins row and column, per pair, ``[B]``; at least log 2.

    ``-log(exp F_ii / (sum_k exp F_ik + sum_k exp F_ki))``: the positive is counted twice.

    Args:
        logits: ``[B, B]``, scores divided by the temperature, -inf where an entry is no negative; the diagonal holds
            the shown pairs.

    Source: PMPGuard (AAAI 2026) Eq. 6.
    """
    logits = widened(logits)
    return torch.logaddexp(logits.logsumexp(1), logits.logsumexp(0)) - logits.diagonal()


def log_complement(logits: Tensor) -> Tensor:
    """``log(1 - softmax(logits))`` over the last axis, exact also where one probability is near 1.

    Only the largest probability of a row can be near 1; its complement is summed from the others, which keeps
    both value and gradient accurate in fp32 (``1 - p`` would round to 0).

    Args:
        logits: ``[..., B]``.
    """
    p = widened(logits).softmax(-1)
    top = p.argmax(-1, keepdim=True)
    others = p.scatter(-1, top, 0.0).sum(-1, keepdim=True)
    return (1 - p).scatter(-1, top, others).clamp(min=SMALLEST).log()


def _gce(logits: Tensor, q: float) -> Tensor:
    return (1 - (q * log_complement(logits)).exp()) / q


COMPLEMENTARY: dict[str, Callable[[Tensor, float], Tensor]] = {
    "log": lambda logits, q: -log_complement(logits),
    "tan": lambda logits, q: widened(logits).softmax(-1).tan(),
    "abs": lambda logits, q: widened(logits).softmax(-1),
    "exp": lambda logits, q: (widened(logits).softmax(-1) - 1).exp(),
    "gce": _gce,
}
"""f(p) of a negative's probability p by name, as in penghu-cs/RCL RCL-SGRAF/model.py, from logits and q."""


def complementary(logits: Tensor, kind: str = "log", q: float = 0.2, kept: Tensor | None = None) -> Tensor:
    """Complementary contrastive loss per row, ``[..., B]``: the sum over negatives j of f(P_ij).

    Args:
        logits: ``[..., B, B]``, scores divided by the temperature; P is their softmax over the last axis.
        kind: key of ``COMPLEMENTARY``.
        q: exponent of ``gce``.
        kept: bool ``[..., B, B]``, negatives that count; all but the diagonal if None.

    Source: RCL (TPAMI 2023); penghu-cs/RCL RCL-SGRAF/model.py:453-492.
    """
    if kept is None:
        kept = ~not_negative(logits.shape[-1], logits.device)
    return COMPLEMENTARY[kind](logits, q).where(kept, 0.0).sum(-1)


def random_negatives(shape: tuple[int, ...], count: int, device: torch.device) -> Tensor:
    """Bool ``[..., B, B]``: ``count`` random off-diagonal entries in every row (all B - 1 if fewer).

    Args:
        shape: ``(..., B, B)``.
        count: negatives per row.
        device: of the result; its global generator is drawn from.
    """
    draw = torch.rand(shape, device=device)
    draw.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
    top = draw.topk(min(count, shape[-1] - 1), dim=-1).indices
    return torch.zeros(shape, dtype=torch.bool, device=device).scatter(-1, top, True)
