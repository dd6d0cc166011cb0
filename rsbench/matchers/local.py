"""Local similarity: how strongly all tokens of a text answer to all patches of an image.

``S_ij`` is the Frobenius norm of the cosines between the tokens of text j and the patches of image i
(RRSITR, CVPR 2026, Eq. 3; MSFLabX/RRSITR model/model.py). It equals the root of the inner product of two Gram
matrices, ``||T V'||_F^2 = <T'T, V'V>``, which costs D*D per pair instead of P*L*D.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from rsbench.backbones.base import CONTENT, PAD, Features
from rsbench.losses.reduce import widened

PADDING = ("empty", "never", "always")
"""Which padded text positions are left out.

``never``: none, as in the official code. ``always``: all. ``empty``: those whose hidden state is zero, that is where
the tower says nothing (cached features); CLIP's padded positions attend to the caption and are kept.
"""

BLOCK_VALUES = 2**24
"""Largest number of floats in one intermediate tensor of a block at evaluation (64 MiB in fp32)."""


def unit_tokens(tokens: Tensor, counted: Tensor) -> Tensor:
    """Tokens ``[B, L, D]`` at unit length in at least fp32, zero where ``counted`` (bool ``[B, L]``) is false."""
    return functional.normalize(widened(tokens), dim=-1) * counted[..., None]


def image_units(image: Features) -> Tensor:
    """Patches ``[N, P, D]`` of images for the local similarity: content tokens only."""
    assert image.tokens is not None and image.kind is not None
    return unit_tokens(image.tokens, image.kind == CONTENT)


def text_units(text: Features, padding: str = "empty") -> Tensor:
    """Tokens ``[M, L, D]`` of texts for the local similarity: all positions but the padding left out.

    Args:
        text: features with tokens.
        padding: one of ``PADDING``.
    """
    assert text.tokens is not None and text.kind is not None
    left_out = text.kind == PAD
    if padding == "empty":
        left_out = left_out & ~text.hidden.any(-1) if text.hidden is not None else torch.zeros_like(left_out)
    elif padding == "never":
        left_out = torch.zeros_like(left_out)
    return unit_tokens(text.tokens, ~left_out)


def frobenius_direct(patches: Tensor, tokens: Tensor) -> Tensor:
    """Norms ``[N, M]`` of all cosine matrices, from the ``[N, M, P, L]`` cosines themselves.

    Args:
        patches: ``[N, P, D]``, unit or zero vectors.
        tokens: ``[M, L, D]``, unit or zero vectors.
    """
    cosines = torch.einsum("npd,mld->nmpl", patches, tokens)
    norms: Tensor = torch.linalg.vector_norm(cosines, dim=(2, 3))
    return norms


def frobenius_gram(patches: Tensor, tokens: Tensor) -> Tensor:
    """The same norms from one Gram matrix per image and per text: a single product of ``[N, D*D]`` and ``[D*D, M]``."""
    squares = (patches.mT @ patches).flatten(1) @ (tokens.mT @ tokens).flatten(1).T
    positive = squares > 0  # the root has no gradient at 0 (nothing counted)
    return squares.where(positive, 1.0).sqrt().where(positive, 0.0)


def prefers_gram(images: int, texts: int, patches: int, tokens: int, dim: int) -> bool:
    """Whether the Gram form multiplies less: ``D^2 (N P + M L + N M)`` against ``D N M P L``.

    Args:
        images: N.
        texts: M.
        patches: P of an image.
        tokens: L of a text.
        dim: D.
    """
    return dim * (images * patches + texts * tokens + images * texts) < images * texts * patches * tokens


def frobenius(patches: Tensor, tokens: Tensor) -> Tensor:
    """Norms ``[N, M]`` by the cheaper form; see ``frobenius_direct``."""
    (n, p, dim), (m, count) = patches.shape, tokens.shape[:2]
    return (frobenius_gram if prefers_gram(n, m, p, count, dim) else frobenius_direct)(patches, tokens)


def local_similarity(image: Features, text: Features, padding: str = "empty") -> Tensor:
    """Local similarity ``[N, M]``, from 0 to sqrt(P*L), in at least fp32.

    Args:
        image: features of N images with tokens.
        text: features of M texts with tokens.
        padding: one of ``PADDING``.
    """
    with torch.autocast(image.pooled.device.type, enabled=False):
        return frobenius(image_units(image), text_units(text, padding))


def block_rows(image: Features, text: Features, values: int = BLOCK_VALUES) -> int:
    """Images, and as many texts, of a block whose largest intermediate tensor has about ``values`` floats at most."""
    assert image.tokens is not None and text.tokens is not None
    (patches, dim), tokens = image.tokens.shape[1:], text.tokens.shape[1]
    rows = max(1, values // dim**2)
    return rows if prefers_gram(rows, rows, patches, tokens, dim) else max(1, math.isqrt(values // (patches * tokens)))
