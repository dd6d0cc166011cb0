"""How far the relations inside an image agree with those inside its caption, as a discrepancy per pair.

A modality's relation matrix holds the similarities of its own tokens. Its proxy is the other modality's matrix, read
at the tokens that match best across modalities. The discrepancy is the row-wise KL divergence between the two.
Source: ReCon (CVPR 2025) Eq. 3-4, after IAIS (lancopku/IAIS model/model.py).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from rsbench.losses.reduce import not_negative, widened


def _masked(logits: Tensor, real: Tensor) -> Tensor:
    """Logits with columns that are not real at a value whose exponential is 0; finite, so that gradients are, too."""
    return logits.masked_fill(~real[:, None, :], torch.finfo(logits.dtype).min / 2)


def best_match(cross: Tensor, real: Tensor) -> Tensor:
    """One-hot ``[B, N, M]`` of each row's largest entry among real columns, the first of equals; no gradient.

    Args:
        cross: similarities of a modality's tokens with the other's, ``[B, N, M]``.
        real: bool ``[B, M]``, the other's content tokens.
    """
    columns = _masked(cross.detach(), real).argmax(-1)
    return functional.one_hot(columns, cross.shape[-1]).to(cross.dtype)


def proxy(match: Tensor, other: Tensor) -> Tensor:
    """The other modality's relations ``[B, M, M]`` read at the matches ``[B, N, M]``: ``[B, N, N]`` (ReCon Eq. 3).

    A product with one-hot rows instead of a gather: batched, and its backward pass is deterministic on a GPU.
    """
    return match @ other @ match.mT


def _kl(log_p: Tensor, log_q: Tensor, real: Tensor) -> Tensor:
    """``sum_b p_ab (log p_ab - log q_ab)`` per row over real columns; 0 in rows that are not real. ``[B, N]``."""
    per_row = (log_p.exp() * (log_p - log_q)).masked_fill(~real[:, None, :], 0.0).sum(-1)
    return per_row.masked_fill(~real, 0.0)


def row_kl(p: Tensor, q: Tensor, real: Tensor) -> Tensor:
    """KL divergence of the row softmax of ``p`` from that of ``q``, ``[B, N]``; 0 in rows that are not real.

    Args:
        p: logits ``[B, N, N]``.
        q: logits ``[B, N, N]``.
        real: bool ``[B, N]``, rows and columns that count.
    """
    return _kl(_masked(p, real).log_softmax(-1), _masked(q, real).log_softmax(-1), real)


def _row_mean(values: Tensor, real: Tensor) -> Tensor:
    return values.sum(-1) / real.sum(-1).clamp(min=1)


def comparable(image_real: Tensor, text_real: Tensor) -> Tensor:
    """Pairs with at least one content token on both sides, bool ``[B]``."""
    return image_real.any(-1) & text_real.any(-1)


def token_discrepancy(
    image: Tensor,
    text: Tensor,
    image_real: Tensor,
    text_real: Tensor,
    temperature: float = 0.1,
    reduce: str = "sum",
    symmetric: bool = False,
) -> Tensor:
    """L_IM ``[B]`` from cosines of the pair's own tokens (ReCon Eq. 3-4); 0 for pairs that are not ``comparable``.

    Args:
        image: tokens ``[B, N, D]``.
        text: tokens ``[B, M, D]``.
        image_real: bool ``[B, N]``, content tokens.
        text_real: bool ``[B, M]``.
        temperature: of the row softmax.
        reduce: ``sum`` or ``mean`` over the rows of each modality.
        symmetric: add the divergence of the proxy from the relations.
    """
    v, l = (functional.normalize(widened(x), dim=-1) for x in (image, text))  # noqa: E741
    vv, ll, vl = v @ v.mT, l @ l.mT, v @ l.mT
    found = torch.zeros(len(v), dtype=v.dtype, device=v.device)
    for own, other, cross, real, other_real in (
        (vv, ll, vl, image_real, text_real),
        (ll, vv, vl.mT, text_real, image_real),
    ):
        p, q = own / temperature, proxy(best_match(cross, other_real), other) / temperature
        rows = row_kl(p, q, real) + (row_kl(q, p, real) if symmetric else 0)
        found = found + (rows.sum(-1) if reduce == "sum" else _row_mean(rows, real))
    return found.where(comparable(image_real, text_real), 0.0)


def attention_discrepancy(logits: Tensor, image_real: Tensor, text_real: Tensor) -> Tensor:
    """L_IM ``[B]`` from one self-attention over both modalities' tokens, in both directions, mean over rows.

    Blocks of the attention are compared as they are, without renormalising. The proxy is the row softmax of the
    gathered block, which had gone through a softmax already, and carries no gradient.

    Args:
        logits: attention before its softmax, ``[B, N + M, N + M]``, image tokens first.
        image_real: bool ``[B, N]``, content tokens.
        text_real: bool ``[B, M]``.

    Source: qxzha/ReCon models/SGRAF.py, class SelfAttention.
    """
    n = image_real.shape[-1]
    attention = _masked(widened(logits), torch.cat((image_real, text_real), dim=-1)).log_softmax(-1)
    v, l = slice(0, n), slice(n, None)  # noqa: E741
    found = torch.zeros(len(logits), dtype=attention.dtype, device=logits.device)
    for own, other, real, other_real in ((v, l, image_real, text_real), (l, v, text_real, image_real)):
        match = best_match(attention[:, own, other], other_real)
        target = _masked(proxy(match, attention[:, other, other].detach().exp()), real).log_softmax(-1)
        relations = attention[:, own, own]
        found = found + _row_mean(_kl(target, relations, real) + _kl(relations, target, real), real)
    return found.where(comparable(image_real, text_real), 0.0)


def batch_discrepancy(image: Tensor, text: Tensor, temperature: float = 0.1) -> Tensor:
    """L_IM ``[B]`` without tokens: a pair's image among all images against its caption among all captions.

    KL in both directions between the row softmaxes of the two cosine matrices; a pair's entry with itself is left
    out. 0 for batches of one or two pairs.

    Args:
        image: pooled ``[B, D]``.
        text: pooled ``[B, D]``.
        temperature: of the row softmax.

    Source: qxzha/ReCon models/SGRAF.py forward_relation, reduced to cosines; MediaBrain-SJTU/GSC is similar.
    """
    blocked = not_negative(len(image), image.device)
    log_p, log_q = (_others(x, blocked, temperature) for x in (image, text))
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).masked_fill(blocked, 0.0).sum(-1)


def _others(x: Tensor, blocked: Tensor, temperature: float) -> Tensor:
    unit = functional.normalize(widened(x), dim=-1)
    logits = unit @ unit.mT / temperature
    return logits.masked_fill(blocked, torch.finfo(logits.dtype).min / 2).log_softmax(-1)


def bounded(discrepancy: Tensor) -> Tensor:
    """``y_IM = log(1 + L_IM) / (1 + log(1 + L_IM))`` in [0, 1) (ReCon Eq. 7); 0.5 at L_IM = e - 1."""
    log = widened(discrepancy).log1p()
    return log / (1 + log)


def unbounded(y: float) -> float:
    """L_IM at which ``bounded`` reaches y; infinite at 1."""
    return math.expm1(y / (1 - y)) if y < 1 else math.inf
