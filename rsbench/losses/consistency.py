"""Distance of paired features."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from rsbench.losses.reduce import widened

REDUCTIONS = ("sum", "mse")
"""Over dimensions: squared Euclidean distance, or its mean."""


def paired_distance(student: Tensor, teacher: Tensor, reduction: str = "sum") -> Tensor:
    """Squared distance of L2-normalised pairs, ``[B]`` (RDB, arXiv 2505.16756, Eq. 13).

    Args:
        student: ``[B, D]``.
        teacher: ``[B, D]``, gets no gradient.
        reduction: of ``REDUCTIONS``.
    """
    a, b = (functional.normalize(widened(x), dim=-1) for x in (student, teacher.detach()))
    squares = (a - b).square()
    return squares.sum(-1) if reduction == "sum" else squares.mean(-1)
