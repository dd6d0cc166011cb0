"""Bottleneck adapters, plain and cross-modal. Source: RDB (arXiv 2505.16756) 3.2 and Eq. 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rsbench.backbones.adapters.differential import DifferentialAttention
from rsbench.backbones.adapters.hierarchical import HierarchicalAttention

GATE = 0.6
"""Where gates start before their sigmoid (seekerhuang/HarMA models/mga.py)."""


class Gate(nn.Module):
    """``sigmoid(q) a + (1 - sigmoid(q)) b`` with one learned scalar q (seekerhuang/HarMA models/mga.py:117-118)."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Parameter(torch.tensor(GATE))

    @property
    def share(self) -> Tensor:
        """Share of ``a``, in (0, 1)."""
        return self.q.sigmoid()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Blend two tensors of one shape."""
        return self.share * a + (1 - self.share) * b


class SharedAttention(nn.Module):
    """Shared layer of HarMA: a narrower gated self-attention with a residual (seekerhuang/HarMA models/mga.py:28-63).

    Args:
        width: r, even; attention runs in r / 2 dimensions with at most 8 heads.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, width // 2), zeroed(nn.Linear(width // 2, width))
        self.attention = nn.MultiheadAttention(width // 2, math.gcd(8, width // 2), batch_first=True)
        self.gate = Gate()

    def forward(self, a: Tensor) -> Tensor:
        """``[B, n, r] -> [B, n, r]``; a single vector ``[B, r]`` counts as one token."""
        x = self.down(a if a.ndim == 3 else a[:, None])
        found: Tensor = self.up(self.gate(self.attention(x, x, x, need_weights=False)[0], x))
        return a + found.reshape(a.shape)


class PlainAdapter(nn.Module):
    """``W_up dropout(GELU(W_down E))``: what is to be added to the states (Eq. 1).

    Args:
        width: W of the states.
        inner: r.
        dropout: after the activation.
    """

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, inner), zeroed(nn.Linear(inner, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, valid: Tensor) -> Tensor:
        """Addition ``[B, L, W]`` to states ``[B, L, W]``, 0 where bool ``valid [B, L]`` does not hold."""
        found: Tensor = self.up(self.inside(self.squeezed(states), valid))
        return found * valid[..., None]

    def squeezed(self, states: Tensor) -> Tensor:
        """Narrow states z ``[B, L, r]``."""
        found: Tensor = self.dropout(nn.functional.gelu(self.down(states)))
        return found

    def inside(self, z: Tensor, valid: Tensor) -> Tensor:
        """What happens between the two projections: nothing."""
        del valid
        return z


class CrossModalAdapter(PlainAdapter):
    """Adapter with the attention of its modality, a layer shared by both modalities, and a gate (CMAA).

    Args:
        width: W of the states.
        inner: r.
        dropout: after the activation.
        attention: differential for images, hierarchical for texts (one vector, added to every valid token).
        shared: the layer tied to the other modality's adapter; None for none, and no gate.
    """

    def __init__(
        self,
        width: int,
        inner: int,
        dropout: float,
        attention: DifferentialAttention | HierarchicalAttention,
        shared: nn.Module | None,
    ) -> None:
        super().__init__(width, inner, dropout)
        self.attention, self.shared = attention, shared
        self.gate = None if shared is None else Gate()

    def inside(self, z: Tensor, valid: Tensor) -> Tensor:
        """Attention, shared layer, gate; ``[B, L, r]`` of images, ``[B, 1, r]`` of texts."""
        words = isinstance(self.attention, HierarchicalAttention)
        a: Tensor = self.attention(z, valid)[:, None] if words else self.attention(z)
        if self.shared is None or self.gate is None:
            return a
        blend: Tensor = self.gate(a, self.shared(a))
        return blend


def zeroed(layer: nn.Linear) -> nn.Linear:
    """A layer whose output is 0 until it is trained."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
