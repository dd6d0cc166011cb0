"""Biased complementary labels: unused negatives, weighted by how likely they are to be picked.

Source: SREM (AAAI 2024) Eq. 9-13. The printed form does not train; see ``READINGS``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rsbench.losses.contrastive import complementary, log_complement
from rsbench.losses.reduce import masked_mean

READINGS = ("weight_softmax", "literal", "yu_forward", "uniform")
"""How the selection distribution Q enters the loss.

``weight_softmax``: mean_i sum_j Q_ij (-log(1 - P_ij)), the expectation over labels drawn from Q.
``literal``: S' = Q^T S, -log(1 - S'), as printed; pushes positives down, does not learn by itself.
``yu_forward``: -log (P Q)_ij, the forward correction of Yu et al. 2018.
``uniform``: -log(1 - P_ij), every negative alike (L_c* of SREM's Table 3).
"""


@torch.no_grad()
def selection(scores: Tensor, excluded: Tensor, beta: float, center: float) -> Tensor:
    """Pbar ``[..., B, B]``: score in (0, 1) of each negative to be picked as complementary label (Eq. 10).

    Constant for the gradient; 0 at excluded entries.

    Args:
        scores: S = sigmoid(F), ``[..., B, B]``.
        excluded: bool, broadcast to ``[..., B, B]``: entries with no share in Eq. 10's sums (no negatives).
        beta: sharpness.
        center: b.
    """
    x = (beta * (scores - center)).masked_fill(excluded, float("-inf"))
    total = x.logsumexp(-1, keepdim=True)
    return (x - torch.logaddexp(total, torch.zeros_like(total))).exp()


@torch.no_grad()
def spread(chance: Tensor, excluded: Tensor) -> Tensor:
    """Q ``[..., B, B]``: softmax of the selection scores over each row's candidates (Eq. 11, 12); 0 in a row without.

    Args:
        chance: ``[..., B, B]`` of ``selection``.
        excluded: bool ``[..., B, B]``, entries that get no mass.
    """
    return chance.masked_fill(excluded, float("-inf")).softmax(-1).nan_to_num(0.0)


def biased_complementary(reading: str, logits: Tensor, scores: Tensor, q: Tensor, negatives: Tensor) -> Tensor:
    """Complementary loss per row, ``[..., B]``.

    Args:
        reading: one of ``READINGS``.
        logits: G ``[..., B, B]``, in at least fp32; P is their row softmax.
        scores: sigmoid of the logits.
        q: Q of ``spread``; unused by ``uniform``.
        negatives: bool, broadcast to ``[..., B, B]``: the entries that count.
    """
    if reading == "weight_softmax":
        return -(q * log_complement(logits)).sum(-1)
    if reading == "uniform":
        return complementary(logits, "log", kept=negatives) / negatives.sum(-1).clamp(min=1)
    if reading == "literal":
        return masked_mean(-torch.log1p(-(q.mT @ scores).clamp(max=1 - 1e-6)), negatives)
    return masked_mean(-(logits.softmax(-1) @ q).clamp(min=1e-12).log(), negatives)
