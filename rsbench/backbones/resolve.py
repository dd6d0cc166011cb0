"""Names, tunings, weights and parameters of a backbone, checked without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsbench.backbones.card import BackboneCard
from rsbench.backbones.cards import PATH
from rsbench.errors import UnknownNameError, UsageError, WeightsError
from rsbench.registry import BACKBONES

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


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
        found[name] = _cast(card.name, name, value, found[name])
    return found


def _cast(backbone: str, name: str, value: Any, default: Any) -> Any:
    """The value in the type of the default."""
    kind = type(default)
    try:
        if kind is bool:
            return _BOOLEANS[str(value).lower()]
        if isinstance(value, bool) or (kind is int and float(value) != int(float(value))):
            raise ValueError
        return kind(float(value)) if kind is int else kind(value)
    except (KeyError, ValueError, TypeError, OverflowError):
        expected = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
        message = f"backbone.{name}={value!r} of '{backbone}' must be {expected}, for example {default!r}"
        raise UsageError(message) from None
