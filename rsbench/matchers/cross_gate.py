"""Cross-gated attention (CGA): how much of the other modality flows into each word and each region.

Source: PMPGuard (AAAI 2026) Eq. 1-5. ``W [u ; vt] = W1 u + sum_j alpha_ij (W2 v_j)``: both products are taken once per
sample, so that a pair costs only products of the size words x regions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsbench.backbones.base import Features
from rsbench.matchers.blocks import in_blocks
from rsbench.matchers.fragments import parts
from rsbench.matchers.gated_mean import gated_mean

BLOCK_ELEMENTS = 2**20
"""Gated fragments per block of pairs where no gradient is needed."""


class CrossGate(nn.Module):
    """CGA with a bilinear attention shared by both sides and one gate per side.

    Args:
        dim: D of the fragments.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention = nn.Linear(dim, dim, bias=False)
        nn.init.eye_(self.attention.weight)
        self.text_gate, self.image_gate = nn.Linear(2 * dim, dim), nn.Linear(2 * dim, dim)

    def scores(self, image: Features, text: Features) -> Tensor:
        """Cosines ``[N, M]`` of mean gated regions and mean gated words, each pair gated by itself.

        Args:
            image: N images, of ``fragments``.
            text: M texts, of ``fragments``.
        """
        if torch.is_grad_enabled():
            return self._scores(image, text)
        return in_blocks(self._scores, image, text, *block_rows(image, text, BLOCK_ELEMENTS))

    def gated(self, image: Features, text: Features) -> tuple[Tensor, Tensor]:
        """Gated regions ``[N, M, n, D]`` and gated words ``[N, M, m, D]`` of every pair (Eq. 5)."""
        (v, u), (alpha, beta) = (parts(image)[0], parts(text)[0]), self._attention(image, text)
        uh = _lerp(u.flatten(0, 1).expand(len(v), -1, -1), v, self.text_gate, alpha)
        vh = _lerp(v.flatten(0, 1).expand(len(u), -1, -1), u, self.image_gate, beta)
        return vh.view(len(u), *v.shape).transpose(0, 1), uh.view(len(v), *u.shape)

    def own(self, image: Features, text: Features) -> tuple[Tensor, Tensor]:
        """Mean gated regions and mean gated words ``[B, D]``, each sample gated by its own partner."""
        (v, regions), (u, words) = parts(image), parts(text)
        a = _cosines(v, self.attention(v), u)
        uh = _lerp(u, v, self.text_gate, _softmax(a.mT, regions[:, None]))
        vh = _lerp(v, u, self.image_gate, _softmax(a, words[:, None]))
        return _mean(vh, regions), _mean(uh, words)

    def affinity(self, image: Features, text: Features) -> Tensor:
        """``a_ij = u_i . W v_j / (|u_i| |v_j|)`` of every pair, ``[N, n, M, m]`` (Eq. 1)."""
        v, u = parts(image)[0], parts(text)[0]
        a = _cosines(v.flatten(0, 1), self.attention(v.flatten(0, 1)), u.flatten(0, 1))
        return a.view(*v.shape[:2], *u.shape[:2])

    def _attention(self, image: Features, text: Features) -> tuple[Tensor, Tensor]:
        """Attention alpha ``[N, M m, n]`` and beta ``[M, N n, m]`` (Eq. 2)."""
        a, (_, regions), (_, words) = self.affinity(image, text), parts(image), parts(text)
        alpha = _softmax(a.flatten(2).mT, regions[:, None])
        return alpha, _softmax(a.permute(2, 0, 1, 3).flatten(1, 2), words[:, None])

    def _scores(self, image: Features, text: Features) -> Tensor:
        (v, regions), (u, words) = parts(image), parts(text)
        alpha, beta = self._attention(image, text)
        uh = _pooled(u, v, self.text_gate, alpha, words)
        vh = _pooled(v, u, self.image_gate, beta, regions).transpose(0, 1)
        return functional.cosine_similarity(vh, uh, dim=-1)


def block_rows(image: Features, text: Features, elements: int) -> tuple[int, int]:
    """Images and texts per block, such that the gated fragments of a block number at most ``elements``."""
    v, u = parts(image)[0], parts(text)[0]
    pairs = max(1, elements // (v.shape[-1] * max(v.shape[1], u.shape[1])))
    rows = max(1, min(len(image), math.isqrt(pairs)))
    return rows, max(1, pairs // rows)


def _cosines(v: Tensor, attended: Tensor, u: Tensor) -> Tensor:
    """``u_i . W v_j`` over ``|u_i| |v_j|`` (not ``|W v_j|``), ``[..., n, m]``; 0 for padding."""
    scaled: Tensor = attended / v.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return scaled @ functional.normalize(u, dim=-1).mT


def _softmax(a: Tensor, real: Tensor) -> Tensor:
    """Softmax over the last axis, where it is real."""
    return (a if bool(real.all()) else a.masked_fill(~real, -math.inf)).softmax(-1)


def _sides(query: Tensor, key: Tensor, gate: nn.Linear) -> tuple[Tensor, Tensor]:
    """What a gate sees of queries and of keys before attention: ``W1 q + b`` and ``W2 k``."""
    dim = query.shape[-1]
    own = functional.linear(query, gate.weight[:, :dim], gate.bias)
    return own, functional.linear(key, gate.weight[:, dim:])


def _pooled(query: Tensor, key: Tensor, gate: nn.Linear, attention: Tensor, real: Tensor) -> Tensor:
    """Mean gated queries ``[K, Q, D]`` of queries ``[Q, q, D]`` and keys ``[K, k, D]`` (Eq. 3-5)."""
    own, other = _sides(query, key, gate)
    return gated_mean(query, own, key, other, attention, real.to(query.dtype) / real.sum(-1, keepdim=True))


def _lerp(query: Tensor, key: Tensor, gate: nn.Linear, attention: Tensor) -> Tensor:
    """Gated queries themselves: ``g q + (1 - g) kt``, ``[K, X, D]`` of queries ``[K, X, D]`` and keys ``[K, k, D]``."""
    own, other = _sides(query, key, gate)
    return (attention @ key).lerp(query, torch.baddbmm(own, attention, other).sigmoid_())


def _mean(values: Tensor, real: Tensor) -> Tensor:
    """Mean of the real ones among ``[B, l, D]``, ``[B, D]``."""
    return (values * real[..., None]).sum(1) / real.sum(1, keepdim=True)
