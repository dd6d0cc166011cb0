"""Names, tunings, weights and parameters of a backbone, checked without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsbench.backbones.card import PATH, BackboneCard
from rsbench.casting import cast_like
from rsbench.errors import UnknownNameError, WeightsError
from rsbench.registry import BACKBONES


def resolve_backbone(
    name: str, tuning: str = "", weights: str = "", params: Mapping[str, Any] | None = None
) -> tuple[BackboneCard, str, str, dict[str, Any]]:
    """Check names and fill in defaults.

    Returns:
        The card, the tuning, the weights, and every parameter with its type.

    Raises:
        UnknownNameError: backbone, tuning or parameter that does not exist.
        UsageError: a value of the wrong type.
        WeightsError: weights of a kind that the backbone has not, or a file that is not there.
        DependencyError: an extra is not installed.
    """
    card: BackboneCard = BACKBONES.load(name)
    tuning, weights = tuning or card.default_tuning, weights or card.weights[0]
    if tuning not in card.capabilities:
        raise UnknownNameError(f"tuning of backbone '{name}'", tuning, card.capabilities, "pass one with --tuning")
    _check_weights(card, weights)
    return card, tuning, weights, _resolve_params(card, params or {})


def _check_weights(card: BackboneCard, weights: str) -> None:
    if weights in card.weights and weights != PATH:
        return
    kinds = [f"'{w}'" if w != PATH else "the path of a local file" for w in card.weights]
    allowed = f"backbone '{card.name}' takes --weights {' or '.join(kinds)}"
    if PATH not in card.weights:
        raise WeightsError(f"unknown weights '{weights}': {allowed}")
    if not Path(weights).is_file():
        raise WeightsError(f"weights '{weights}' are no kind and no file: {allowed}")


def _resolve_params(card: BackboneCard, given: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(card.params)
    for name, value in given.items():
        if name not in found:
            raise UnknownNameError(f"parameter of backbone '{card.name}'", name, found)
        found[name] = cast_like(f"backbone.{name}", value, found[name])
    return found
