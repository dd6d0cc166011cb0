"""Positive-negative awareness attention (PNAA): a pair is scored word by word against a boundary t_k.

Source: PMPGuard (AAAI 2026) Eq. 10-14. Where the paper is silent, CrossmodalGroup/NAAF model.py (CVPR 2022).
Tensors of fragment cosines are laid out ``[N, n, m, M]`` (image, region, word, text): every sum then runs over an
outer axis, with the texts side by side in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from rsbench.backbones.base import Features
from rsbench.matchers.fragments import parts

POS_MASKS = ("neginf", "binary", "multiply")
"""Readings of Mask_pos in Eq. 12, with x = s_ij - t_k.

``neginf``: softmax of factor * x over the regions with x > 0 (NAAF model.py:290-299).
``binary``: softmax of 1[x > 0], as printed: regions below t_k still get weight 1 against e.
``multiply``: softmax of x 1[x > 0].
"""

RELEVANCES = ("naaf", "plain")
"""w_relev of Eq. 13, undefined in the paper: cosines scaled per region over the words first (NAAF), or as they are."""

LEAK = 0.1
"""Slope of negative cosines in NAAF's relevance."""

SHORTEST = 1e-8
"""Floor of the squared length of an attended region relative to the longest region."""


@dataclass(frozen=True)
class Reading:
    """How PNAA is read.

    Attributes:
        pos_mask: one of ``POS_MASKS``.
        relev: one of ``RELEVANCES``.
        factor: inverse temperature of both softmaxes.
        negative: whether words without a region above t_k lower the score (Eq. 11).
    """

    pos_mask: str = "neginf"
    relev: str = "naaf"
    factor: float = 20.0
    negative: bool = True


@dataclass(frozen=True)
class Aware:
    """What PNAA says of N images and M texts.

    Attributes:
        score: S ``[N, M]`` (Eq. 14).
        negative: the share of it that comes from ``sneg``, ``[N, M]``.
        best: ``max_j s_ij`` of each word, detached, ``[N, m, M]``.
    """

    score: Tensor
    negative: Tensor
    best: Tensor


def awareness(image: Features, text: Features, boundary: float, how: Reading) -> Aware:
    """PNAA on the fragments of N images and M texts as they are.

    Args:
        image: of ``fragments``, n regions each.
        text: of ``fragments``, m words each.
        boundary: t_k.
        how: the reading.
    """
    (v, regions), (u, words) = parts(image), parts(text)
    unit, query = functional.normalize(v, dim=-1), functional.normalize(u, dim=-1)
    s = unit.flatten(0, 1) @ query.permute(2, 1, 0).flatten(1)
    s = s.view(*v.shape[:2], u.shape[1], u.shape[0])
    return read_cosines(s, v.norm(dim=-1)[..., None, None], unit @ unit.mT, regions, words, boundary, how)


def pairwise_awareness(v: Tensor, u: Tensor, regions: Tensor, words: Tensor, boundary: float, how: Reading) -> Aware:
    """PNAA where regions and words differ from pair to pair (after the gates).

    Args:
        v: regions ``[N, M, n, D]``.
        u: words ``[N, M, m, D]``.
        regions: real regions, bool ``[N, n]``.
        words: real words, bool ``[M, m]``.
        boundary: t_k.
        how: the reading.
    """
    u = u.masked_fill(~words[..., None], 0)  # a gate lets the image into padding
    unit, query = functional.normalize(v, dim=-1), functional.normalize(u, dim=-1)
    s = (unit @ query.mT).permute(0, 2, 3, 1)
    return read_cosines(s, v.norm(dim=-1).mT[:, :, None], unit @ unit.mT, regions, words, boundary, how)


def read_cosines(
    s: Tensor, length: Tensor, gram: Tensor, regions: Tensor, words: Tensor, boundary: float, how: Reading
) -> Aware:
    """PNAA from fragment cosines (Eq. 10-14); the attended regions themselves are never formed.

    Args:
        s: cosines ``[N, n, m, M]``.
        length: |v_j|, ``[N, n, 1, 1 or M]``.
        gram: cosines among the regions, ``[N, n, n]``, or ``[N, M, n, n]`` where they differ from pair to pair.
        regions: real regions, bool ``[N, n]``.
        words: real words, bool ``[M, m]``; the cosines of others must be 0.
        boundary: t_k.
        how: the reading.
    """
    missing = None if bool(regions.all()) else ~regions[..., None, None]
    best = (s if missing is None else s.masked_fill(missing, -math.inf)).amax(1)
    positive = _attended(s, best.detach(), length, gram, missing, boundary, how) + _relevant(s, missing, how)
    negative = (best - boundary).clamp(max=0)
    share = words.T.to(s.dtype) / words.sum(1)  # [m, M]: the mean over real words
    below = (negative * share).sum(1)
    score = (positive * share).sum(1)
    return Aware(score + below if how.negative else score, below, best.detach())


def _attended(
    s: Tensor, best: Tensor, length: Tensor, gram: Tensor, missing: Tensor | None, t: float, how: Reading
) -> Tensor:
    """``cos(u_i, vbar_i)``, ``[N, m, M]``; 0 where no region has a weight (Eq. 12, 13).

    With e_ij = weight * |v_j|: u_i . vbar_i = |u_i| sum_j e_ij s_ij, and |vbar_i|^2 = e_i' gram e_i. A cosine does not
    depend on the length of vbar, so that neither the weights nor the lengths need to be normalised.
    """
    if how.pos_mask == "neginf":
        weight = functional.threshold(s, t, -math.inf).sub_(best[:, None]).mul_(how.factor).exp_()
    elif how.pos_mask == "binary":
        weight = (s > t).to(s.dtype).exp_()
    else:
        weight = functional.threshold(s, t, t).sub_(t).exp_()
    length = length / length.detach().amax(1, keepdim=True).clamp(min=1e-30)
    e = weight * (length if missing is None else length.masked_fill(missing, 0))
    return (e * s).sum(1) * (e * _mixed(gram, e)).sum(1).clamp(min=SHORTEST).rsqrt()


def _mixed(gram: Tensor, e: Tensor) -> Tensor:
    """``gram @ e`` over the regions, for both shapes of ``gram``."""
    if gram.ndim == 3:
        return (gram @ e.flatten(2)).view_as(e)
    return (gram @ e.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _relevant(s: Tensor, missing: Tensor | None, how: Reading) -> Tensor:
    """``sum_j wrelev_ij s_ij``, ``[N, m, M]`` (Eq. 13)."""
    if how.relev == "naaf":
        r = functional.leaky_relu(s, LEAK)
        norm = r.square().sum(2, keepdim=True).clamp(min=1e-16).rsqrt()  # over words, per region
        weight = (r * (how.factor * norm)).exp_()
    else:
        weight = (how.factor * s).exp_()
    if missing is not None:
        weight = weight.masked_fill(missing, 0)
    return (weight * s).sum(1) / weight.sum(1)
