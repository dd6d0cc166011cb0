"""Words and regions: the content tokens of a batch, without class, start, end and padding tokens."""

from __future__ import annotations

from torch import Tensor

from rsbench.backbones.base import CONTENT, PAD, Features
from rsbench.losses.reduce import widened


def fragments(features: Features) -> Features:
    """Only the content tokens, in at least fp32; columns that hold none in any row are dropped.

    A row without content tokens gets its pooled vector as the one token.

    Args:
        features: with tokens ``[B, L, D]`` and kinds.

    Returns:
        Features whose tokens ``[B, l, D]`` are 0 where their kind, ``CONTENT`` or ``PAD``, is ``PAD``.
    """
    assert features.tokens is not None and features.kind is not None
    real = features.kind == CONTENT
    columns = real.any(0)
    columns[0] |= ~columns.any()
    index = columns.nonzero()[:, 0]
    real = real.index_select(1, index)
    tokens = widened(features.tokens.index_select(1, index)).masked_fill(~real[..., None], 0)
    pooled, empty = widened(features.pooled), ~real.any(1)
    if bool(empty.any()):
        tokens[empty, 0], real[empty, 0] = pooled[empty].to(tokens.dtype), True
    return Features(pooled, tokens, features.kind.new_full(real.shape, PAD).masked_fill(real, CONTENT))


def without_content(features: Features) -> Tensor:
    """Rows that hold no content token, bool ``[B]``."""
    assert features.kind is not None
    return ~(features.kind == CONTENT).any(1)


def parts(features: Features) -> tuple[Tensor, Tensor]:
    """Tokens ``[B, l, D]`` of ``fragments`` and where they are real, bool ``[B, l]``."""
    assert features.tokens is not None and features.kind is not None
    return features.tokens, features.kind == CONTENT


def mean_fragment(features: Features) -> Tensor:
    """Mean of the real tokens of ``fragments``, ``[B, D]``."""
    tokens, real = parts(features)
    return tokens.sum(1) / real.sum(1, keepdim=True)
