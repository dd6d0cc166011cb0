"""Differential attention: the difference of two softmax maps. Source: RDB (arXiv 2505.16756) Eq. 2 and 3."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rsbench.losses.reduce import widened


def depth_lam(depth: int) -> float:
    """Constant part of lambda at a depth counted from 0 (microsoft/unilm Diff-Transformer/multihead_diffattn.py)."""
    return 0.8 - 0.6 * math.exp(-0.3 * depth)


def differential_map(q: Tensor, k: Tensor, lam: Tensor) -> Tensor:
    """``softmax(Q1 K1^T / sqrt(d)) - lam softmax(Q2 K2^T / sqrt(d))``; every row sums to 1 - lam.

    Args:
        q: ``[..., 2, n, d]``, both queries.
        k: ``[..., 2, n, d]``, both keys.
        lam: scalar.

    Returns:
        ``[..., n, n]``.
    """
    maps = widened(q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
    first, second = maps.unbind(-3)
    return first - lam * second


class DifferentialAttention(nn.Module):
    """Self-attention over tokens ``[B, n, r] -> [B, n, r]`` with a differential map.

    Args:
        width: r, a multiple of ``2 * heads``.
        lam_init: constant part of lambda.
        heads: number of heads; lambda is common to them. One as printed.
        subln: RMS norm of each head's output and the factor ``1 - lam_init`` of the reference; off as printed.
    """

    def __init__(self, width: int, lam_init: float = 0.8, heads: int = 1, subln: bool = False) -> None:
        super().__init__()
        self.heads, self.part, self.lam_init = heads, width // (2 * heads), lam_init
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        # four vectors and no matrix: they go without weight decay
        self.lam_q1, self.lam_k1, self.lam_q2, self.lam_k2 = (
            nn.Parameter(0.1 * torch.randn(self.part)) for _ in "1234"
        )
        self.norm = nn.RMSNorm(width // heads, eps=1e-5) if subln else None

    @property
    def lam(self) -> Tensor:
        """Lambda, a scalar: ``exp(lq1 . lk1) - exp(lq2 . lk2) + lam_init`` (Eq. 3)."""
        first, second = (self.lam_q1 * self.lam_k1).sum(), (self.lam_q2 * self.lam_k2).sum()
        return first.exp() - second.exp() + self.lam_init

    def forward(self, x: Tensor) -> Tensor:
        """Attend over all tokens."""
        rows, n, width = x.shape
        q, k = (p(x).view(rows, n, self.heads, 2, self.part).permute(0, 2, 3, 1, 4) for p in (self.query, self.key))
        v = self.value(x).view(rows, n, self.heads, width // self.heads).transpose(1, 2)
        found = differential_map(q, k, self.lam).to(v.dtype) @ v
        if self.norm is not None:
            found = (1 - self.lam_init) * self.norm(found)
        joined: Tensor = found.transpose(1, 2).reshape(rows, n, width)
        return joined
