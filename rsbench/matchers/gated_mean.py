"""Mean of gated fragments of every pair, in blocks that are computed anew in the backward pass.

The gated fragments of B images and B captions number B * B * m * D. Only their means are needed, so that neither
pass holds more of them than one block; a block stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CACHED, HELD = 2**16, 2**26
"""Elements of a block on a CPU (256 KiB in fp32) and on other devices (256 MiB); at least one key sample is taken."""


def gated_mean(query: Tensor, own: Tensor, key: Tensor, other: Tensor, attention: Tensor, share: Tensor) -> Tensor:
    """``sum_i share_i (g_i q_i + (1 - g_i) kt_i)``, ``[K, Q, D]``; ``g = sigmoid(own + A other)``, ``kt = A key``.

    Args:
        query: fragments of Q samples, ``[Q, q, D]``.
        own: what the gate sees of them, ``[Q, q, D]``.
        key: fragments of K samples, ``[K, k, D]``.
        other: what the gate sees of them, ``[K, k, D]``.
        attention: A ``[K, Q q, k]``.
        share: weight of each query in the mean, ``[Q, q]``; no gradient reaches it.
    """
    found: Tensor = _GatedMean.apply(query, own, key, other, attention, share)  # type: ignore[no-untyped-call]
    return found


class _GatedMean(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, own: Tensor, key: Tensor, other: Tensor, attention: Tensor, share: Tensor
    ) -> Tensor:
        """Weighted means of gated fragments, block by block; gates and gated fragments are not kept."""
        ctx.save_for_backward(query, own, key, other, attention, share)
        found = query.new_empty(len(key), len(query), query.shape[-1])
        for part in _blocks(query, key):
            gate, attended = _parts(own, key[part], other[part], attention[part])
            gated = attended.lerp_(query.flatten(0, 1).expand_as(gate), gate)
            found[part] = (share[:, None] @ gated.view(-1, *query.shape)).squeeze(-2)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all inputs but ``share``; the gates are computed again."""
        query, own, key, other, attention, share = ctx.saved_tensors
        d_query, d_own = torch.zeros_like(query).flatten(0, 1), torch.zeros_like(own).flatten(0, 1)
        d_key, d_other, d_attention = torch.empty_like(key), torch.empty_like(other), torch.empty_like(attention)
        for part in _blocks(query, key):
            a = attention[part]
            gate, attended = _parts(own, key[part], other[part], a)
            d_gated = (grad[part, :, None] * share[..., None]).flatten(1, 2)
            through = d_gated * gate
            d_query += through.sum(0)
            d_gate = (query.flatten(0, 1) - attended).mul_(through)
            d_gate = torch.addcmul(d_gate, d_gate, gate, value=-1)  # times g (1 - g), g is already in
            d_own += d_gate.sum(0)
            d_attended = d_gated.sub_(through)
            torch.bmm(a.mT, d_attended, out=d_key[part])
            torch.bmm(a.mT, d_gate, out=d_other[part])
            d_attention[part] = torch.baddbmm(d_gate @ other[part].mT, d_attended, key[part].mT)
        return d_query.view_as(query), d_own.view_as(own), d_key, d_other, d_attention, None


def _blocks(query: Tensor, key: Tensor) -> Iterator[slice]:
    """Blocks of key samples."""
    rows = max(1, (CACHED if query.device.type == "cpu" else HELD) // query.numel())
    for start in range(0, len(key), rows):
        yield slice(start, start + rows)


def _parts(own: Tensor, key: Tensor, other: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
    """Gates and attended keys, ``[K, Q q, D]``."""
    gate = torch.baddbmm(own.flatten(0, 1).expand(len(key), -1, -1), attention, other).sigmoid_()
    return gate, attention @ key
