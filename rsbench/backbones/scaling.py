"""Standardisation of cached features, with an optional reduction by principal components."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rsbench.backbones.base import PAD

_BLOCK = 512
_FLOOR = 0.05
"""Smallest std as a share of the mean std: channels that are silent in training must not explode elsewhere."""


class Scaling(nn.Module):
    """``x -> ((x - centre) @ basis - mean) / std``; without reduction ``centre`` and ``basis`` are absent.

    Args:
        width: W of the features.
        pca: dimensions kept, 0 for all.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor
    basis: Tensor

    def __init__(self, width: int, pca: int = 0) -> None:
        super().__init__()
        self.out = min(pca, width) if pca else width
        self.register_buffer("mean", torch.zeros(self.out))
        self.register_buffer("std", torch.ones(self.out))
        if pca:
            self.register_buffer("centre", torch.zeros(width))
            self.register_buffer("basis", torch.eye(width, self.out))

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Take over what ``statistics`` found."""
        for name, value in values.items():
            getattr(self, name).copy_(value)

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``[..., W] -> [..., out]`` in fp32."""
        x = x.float()
        if hasattr(self, "basis"):
            x = (x - self.centre) @ self.basis
        return (x - self.mean) / self.std

    @torch.no_grad()
    def apply_rows(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Scale block by block, so that a memory map is never copied whole in fp32."""
        device = self.mean.device
        blocks = [self(b.to(device)).to(dtype).cpu() for b in torch.split(x, _BLOCK)]
        return torch.cat(blocks)

    def features(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scaled ``pooled`` (fp32) and, where there, ``tokens`` (fp16, zero at padding) with their ``kind``."""
        found = {"pooled": self.apply_rows(raw["pooled"], torch.float32)}
        if "tokens" in raw:
            kind = raw["kind"].clone()
            tokens = self.apply_rows(raw["tokens"], torch.float16)
            found |= {"tokens": tokens.masked_fill_((kind == PAD)[..., None], 0), "kind": kind}
        return found


def statistics(raw: Mapping[str, Tensor], rows: Tensor, keep: int = 0) -> dict[str, Tensor]:
    """Buffers of a ``Scaling`` from some rows of cached features.

    Args:
        raw: ``pooled [N, W]`` and, where ``keep`` is positive and there are any, ``tokens [N, L, W]`` with ``kind``.
        rows: int64, rows of the training part.
        keep: principal components of pooled vectors and tokens (padding left out), 0 for none.
    """
    pooled = raw["pooled"].index_select(0, rows).double()
    found: dict[str, Tensor] = {}
    if keep:
        found["centre"], found["basis"] = _components(raw, rows, keep)
        pooled = (pooled - found["centre"]) @ found["basis"]
    std = pooled.std(dim=0, correction=0)
    floor = (_FLOOR * std.mean()).clamp(min=1e-8)
    found |= {"mean": pooled.mean(dim=0), "std": std.clamp(min=floor)}
    return {k: v.float() for k, v in found.items()}


def _components(raw: Mapping[str, Tensor], rows: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """Mean ``[W]`` and the ``keep`` strongest directions ``[W, keep]``, each with its largest entry positive."""
    width = raw["pooled"].shape[1]
    count, total = 0, torch.zeros(width, dtype=torch.float64)
    products = torch.zeros(width, width, dtype=torch.float64)
    for block in torch.split(rows, _BLOCK):
        x = _vectors(raw, block)
        count, total = count + len(x), total + x.sum(dim=0, dtype=torch.float64)
        products += x.T @ x
    centre = total / count
    _, vectors = torch.linalg.eigh(products / count - torch.outer(centre, centre))
    basis = vectors[:, -keep:].flip(1)
    signs = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True)).sign()
    return centre, basis * signs


def _vectors(raw: Mapping[str, Tensor], rows: Tensor) -> Tensor:
    """Pooled vectors and tokens that are no padding, ``[n, W]`` in fp32."""
    found = [raw["pooled"].index_select(0, rows)]
    if "tokens" in raw:
        tokens, kind = raw["tokens"].index_select(0, rows), raw["kind"].index_select(0, rows)
        found.append(tokens[kind != PAD].float())
    return torch.cat(found)
