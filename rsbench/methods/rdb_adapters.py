"""Which adapters RDB puts where."""

from __future__ import annotations

from torch import nn

from rsbench.backbones.adapters.bottleneck import CrossModalAdapter, PlainAdapter, SharedAttention
from rsbench.backbones.adapters.differential import DifferentialAttention, depth_lam
from rsbench.backbones.adapters.hierarchical import HierarchicalAttention
from rsbench.backbones.base import Backbone
from rsbench.errors import UsageError
from rsbench.methods.cards.rdb import RdbParams

IMAGE, TEXT = "image", "text"


def build_adapters(backbone: Backbone, params: RdbParams) -> dict[str, list[PlainAdapter]]:
    """Adapters by modality, first block first; empty lists for none.

    Raises:
        UsageError: the states are too narrow for the heads.
    """
    if params.adapter == "none":
        return {IMAGE: [], TEXT: []}
    blocks = params.placement == "per_block"
    depths = {m: len(backbone.blocks(m)) if blocks else 1 for m in (IMAGE, TEXT)}
    inner = inner_width(backbone, params)
    tied = [_shared(params.shared, inner) for _ in range(max(depths.values()))]

    def one(modality: str, depth: int) -> PlainAdapter:
        width = backbone.width(modality)
        if params.adapter == "plain":
            return PlainAdapter(width, inner, params.dropout)
        lam = depth_lam(depth) if blocks else params.lam_init
        attention = _attention(modality, inner, lam, params)
        return CrossModalAdapter(width, inner, params.dropout, attention, tied[depth])

    return {m: [one(m, i) for i in range(n)] for m, n in depths.items()}


def inner_width(backbone: Backbone, params: RdbParams) -> int:
    """Width of the adapters: r, or less on a narrow backbone, and always a multiple of ``2 * da_heads``.

    Raises:
        UsageError: the states are too narrow for the heads.
    """
    narrowest, step = min(backbone.width(IMAGE), backbone.width(TEXT)), 2 * params.da_heads
    if narrowest < step:
        raise UsageError(
            f"rdb: da_heads = {params.da_heads} is too many for states of {narrowest} channels; "
            "lower it with --set method.da_heads=1"
        )
    return min(params.r, narrowest) // step * step


def _attention(
    modality: str, width: int, lam: float, params: RdbParams
) -> DifferentialAttention | HierarchicalAttention:
    if modality == TEXT:
        return HierarchicalAttention(width)
    return DifferentialAttention(width, lam, params.da_heads, params.da_subln)


def _shared(kind: str, width: int) -> nn.Module | None:
    if kind == "none":
        return None
    return nn.Linear(width, width) if kind == "linear" else SharedAttention(width)
