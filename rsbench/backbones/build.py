"""From names and parameters to a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rsbench.backbones.base import Backbone
from rsbench.backbones.resolve import resolve_backbone
from rsbench.registry import resolve


def build_backbone(name: str, tuning: str, weights: str, params: Mapping[str, Any], seed: int) -> Backbone:
    """Build a registered backbone.

    Args:
        name: registered name.
        tuning: one of the card's, or empty for its default.
        weights: kind, or path of a local file; empty for the card's default.
        params: overrides of the card's params; strings are cast to the type of the default.
        seed: of everything that is initialised at random.

    Raises:
        UnknownNameError: backbone, tuning or parameter that does not exist.
        UsageError: a value of the wrong type.
        WeightsError: weights that are missing, damaged or do not fit.
        DependencyError: an extra is not installed.
    """
    card, tuning, weights, resolved = resolve_backbone(name, tuning, weights, params)
    backbone: Backbone = resolve(card.target)(tuning, weights, seed, **resolved)
    return backbone
