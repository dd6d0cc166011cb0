"""The tunings of a model of open_clip: trained whole, low-rank updates, or heads on cached features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rsbench.backbones.base import Backbone
from rsbench.backbones.card import BackboneCard
from rsbench.backbones.clip_heads import ClipHeads
from rsbench.backbones.lora import LoraSetup, add_lora
from rsbench.backbones.openclip import OpenClip
from rsbench.backbones.resolve import refuse_idle
from rsbench.errors import UsageError

PARAMS = {"lora": ("rank", "alpha", "targets"), "heads": ("hidden", "dim", "dropout", "words", "pca")}
"""Params that one tuning alone reads."""


def tuned(card: BackboneCard, tuning: str, weights: str, seed: int, params: Mapping[str, Any]) -> Backbone:
    """Build a model of open_clip for a tuning.

    Args:
        card: of the model.
        tuning: ``full``, ``lora`` or ``heads``.
        weights: of the towers.
        seed: of all that is initialised at random.
        params: ``model``, ``tag`` and those of the card; those of ``PARAMS`` are at its defaults where missing.

    Raises:
        UsageError: a param of another tuning, or one out of range.
        WeightsError: weights missing, damaged or of another shape.
    """
    refuse_idle(card, tuning, params, PARAMS)
    special = {name: params.get(name, card.params[name]) for name in PARAMS.get(tuning, ())}
    model, tag = params["model"], params["tag"]
    if tuning == "heads":
        return ClipHeads(weights, seed, card=card, model=model, tag=tag, **special)
    setup = LoraSetup(**special) if tuning == "lora" else None
    backbone = OpenClip(tuning, weights, seed, card=card, model=model, tag=tag)
    if setup is not None:
        _add_lora(backbone, setup, seed)
    return backbone


def _add_lora(backbone: OpenClip, setup: LoraSetup, seed: int) -> None:
    if "blocks" not in backbone.capabilities:
        raise UsageError(
            f"tuning 'lora' needs transformer blocks, which model '{backbone.model}' has not; use --tuning full"
        )
    blocks = [b for modality in ("image", "text") for b in backbone.blocks(modality)]
    add_lora([backbone], blocks, setup, seed)
