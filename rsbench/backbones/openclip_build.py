"""Makers of the backbones on open_clip, one for each card; the cards' targets."""

from __future__ import annotations

from functools import partial
from typing import Any

from rsbench.backbones.base import Backbone
from rsbench.backbones.card import BackboneCard
from rsbench.backbones.cards import openclip as cards
from rsbench.backbones.clip_tuning import tuned


def build(card: BackboneCard, tuning: str, weights: str, seed: int, **params: Any) -> Backbone:
    """A backbone of a card.

    Args:
        card: of any open_clip model, or of one checkpoint, which fixes ``model`` and has no ``tag``.
        tuning: one of the card's.
        weights: ``hub``, ``random``, or a local file.
        seed: of everything that is initialised at random.
        params: those of the card.

    Raises:
        UnknownNameError: no such model, or no such tag.
        UsageError: the tag was trained with another activation.
        WeightsError: weights missing, damaged or of another architecture.
    """
    if isinstance(card, cards.ClipCard):
        params = {"model": card.model, "tag": "", **params}
    return tuned(card, tuning, weights, seed, params)


openclip = partial(build, cards.OPENCLIP)
clip_vit_b32 = partial(build, cards.CLIP_VIT_B32)
clip_vit_l14 = partial(build, cards.CLIP_VIT_L14)
clip_rn50 = partial(build, cards.CLIP_RN50)
georsclip_vit_b32 = partial(build, cards.GEORSCLIP_VIT_B32)
georsclip_vit_b32_ret2 = partial(build, cards.GEORSCLIP_VIT_B32_RET2)
remoteclip_rn50 = partial(build, cards.REMOTECLIP_RN50)
remoteclip_vit_b32 = partial(build, cards.REMOTECLIP_VIT_B32)
remoteclip_vit_l14 = partial(build, cards.REMOTECLIP_VIT_L14)
