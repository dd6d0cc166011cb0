"""Tokens of CLIP's ResNet: the map that its attention pool reads, position by position, in the joint space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def resnet_states(visual: Any, pixels: Tensor) -> Tensor:
    """What the attention pool reads: ``[B, 1 + P, W]``, the mean of the last map, then its P positions row by row."""
    found = visual.forward_intermediates(pixels, indices=1, intermediates_only=True)["image_intermediates"][-1]
    places = found.flatten(2).transpose(1, 2)
    return torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)


def attend(pool: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    """The attention pool on states ``[B, 1 + P, W]``; the mean, at the front, asks.

    Same numbers as ``AttentionPool2d`` of open_clip, which computes all queries and gives back the first, and takes
    the mean itself.

    Returns:
        Pooled ``[B, D]``, and the values ``[B, 1 + P, W]`` of all positions.
    """
    x = states + pool.positional_embedding.to(states.dtype)
    values = pool.v_proj(x)
    query, keys, heads = (
        t.unflatten(-1, (pool.num_heads, -1)).transpose(1, 2) for t in (pool.q_proj(x[:, :1]), pool.k_proj(x), values)
    )
    mixed = functional.scaled_dot_product_attention(query, keys, heads)
    return pool.c_proj(mixed.transpose(1, 2).flatten(2))[:, 0], values


def resnet_tokens(pool: Any, pooled: Tensor, values: Tensor) -> Tensor:
    """Tokens ``[B, 1 + P, D]``: the pooled vector, then what the pool would return if it looked at one position alone.

    That is its output projection of each position's value (the idea of Zhou et al., "Extract Free Dense Labels from
    CLIP", ECCV 2022), position embedding included.
    """
    return torch.cat([pooled[:, None], pool.c_proj(values[:, 1:])], dim=1)
