"""Names, tunings, weights and parameters of a backbone, checked without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsbench.backbones.card import FOLDER, PATH, BackboneCard
from rsbench.casting import cast_like
from rsbench.errors import UnknownNameError, UsageError, WeightsError
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


_PLACES = {PATH: "the path of a local file", FOLDER: "the path of a local folder"}


def warning_of(name: str, weights: str) -> str:
    """What a user must know of a backbone's weights, empty where there is nothing.

    Raises:
        UnknownNameError: no such backbone.
        DependencyError: an extra is not installed.
    """
    card: BackboneCard = BACKBONES.load(name)
    return card.warning_with(weights or card.weights[0])


def _check_weights(card: BackboneCard, weights: str) -> None:
    if weights in card.weights and weights not in _PLACES:
        return
    allowed = f"backbone '{card.name}' takes --weights {' or '.join(_PLACES.get(w, repr(w)) for w in card.weights)}"
    places = [w for w in card.weights if w in _PLACES]
    if not places:
        raise WeightsError(f"unknown weights '{weights}': {allowed}")
    path = Path(weights)
    if not ((PATH in places and path.is_file()) or (FOLDER in places and path.is_dir())):
        wanted = "file" if PATH in places else "folder"
        raise WeightsError(f"weights '{weights}' are no kind and no {wanted}: {allowed}")


def _resolve_params(card: BackboneCard, given: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(card.params)
    for name, value in given.items():
        if name not in found:
            raise UnknownNameError(f"parameter of backbone '{card.name}'", name, found)
        found[name] = cast_like(f"backbone.{name}", value, found[name])
    return found


def refuse_idle(
    card: BackboneCard, tuning: str, params: Mapping[str, Any], only: Mapping[str, tuple[str, ...]]
) -> None:
    """Refuse a param that is set and that the tuning does not read.

    Args:
        card: of the backbone.
        tuning: the chosen one.
        params: resolved ones.
        only: tuning -> params that it alone reads.

    Raises:
        UsageError: naming the param and its tuning.
    """
    for other, names in only.items():
        idle = [n for n in names if n in params and params[n] != card.params[n]] if other != tuning else []
        if idle:
            raise UsageError(
                f"backbone.{idle[0]} works with tuning '{other}' of {card.name}, not with '{tuning}'; leave it out"
            )
