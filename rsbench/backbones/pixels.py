"""From the uint8 images of the store to what a network reads."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Triple = tuple[float, float, float]

HALF: tuple[Triple, Triple] = ((127 / 255,) * 3, (128 / 255,) * 3)
"""Mean and std of the EfficientNet-Lite family: (pixel - 127) / 128."""
IMAGENET: tuple[Triple, Triple] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP: tuple[Triple, Triple] = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Mean and std of the pixels that timm's ImageNet models, and OpenAI's CLIP, were trained on."""


def as_tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 ``[N, H, W, 3]`` over the same memory; a memory map stays one and is not to be written to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns of read-only memory
        return torch.from_numpy(np.asarray(images))  # tells a dataset without pixels by its own message


def prepare(pixels: Tensor, size: int, mean: Triple, std: Triple, mode: str = "bicubic") -> Tensor:
    """Resize and normalise on the device of ``pixels``.

    Args:
        pixels: uint8 ``[B, H, W, 3]``.
        size: side of the result.
        mean: of each channel, in units of [0, 1].
        std: of each channel, in units of [0, 1].
        mode: ``bicubic`` or ``bilinear``, antialiased.

    Returns:
        fp32 ``[B, 3, size, size]``, channels last in memory.
    """
    x = pixels.permute(0, 3, 1, 2).float()
    if x.shape[-2:] != (size, size):
        x = functional.interpolate(x, size=(size, size), mode=mode, antialias=True, align_corners=False).clamp_(0, 255)
    shift, scale = (torch.tensor(v, device=x.device).view(3, 1, 1) * 255 for v in (mean, std))
    return x.sub(shift).div_(scale)


def flip_at_random(x: Tensor) -> Tensor:
    """Mirror each image ``[B, 3, H, W]`` left to right with probability one half."""
    chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(chosen, x.flip(-1), x)
