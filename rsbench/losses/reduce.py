"""What pair-wise losses share: precision, directions, masks, means over subsets."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """The tensor in at least fp32: exponentials of half-precision logits lose most of their digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def both_directions(x: Tensor) -> Tensor:
    """``[B, B]`` (image, text) as ``[2, B, B]``: image-to-text rows first, then text-to-image rows."""
    return torch.stack((x, x.mT))


def not_negative(n: int, device: torch.device, same_image: Tensor | None = None) -> Tensor:
    """Entries of a batch that are no negatives, bool ``[B, B]``: the diagonal, and same-image pairs if given.

    Args:
        n: B.
        device: of the result.
        same_image: ids of the given images ``[B]`` whose repeats are to be left out, or None.
    """
    blocked = torch.eye(n, dtype=torch.bool, device=device)
    return blocked if same_image is None else blocked | (same_image[:, None] == same_image[None, :])


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the last axis of the values where ``mask`` holds; 0 where it holds nowhere."""
    return values.where(mask, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)
