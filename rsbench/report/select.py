"""Choose the results that a table is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rsbench.errors import UnknownNameError, UsageError
from rsbench.report.groups import method_label, row_key
from rsbench.results.schema import Result

Spec = Mapping[str, Any]


def select(
    results: Sequence[Result],
    *,
    datasets: Sequence[str] = (),
    methods: Sequence[str] = (),
    backbones: Sequence[str] = (),
    recipes: Sequence[str] = (),
    kinds: Sequence[str] = (),
    units: Sequence[str] = (),
    noise: Sequence[str] = (),
    validation: bool | None = None,
) -> list[Result]:
    """Results that match every filter; an empty filter matches all.

    Args:
        results: what to choose from.
        datasets: dataset names.
        methods: ``srem`` (all its variants) or ``srem:variant``.
        backbones: backbone names.
        recipes: recipe names.
        kinds: noise kinds; runs without noise stay, whatever is wanted.
        units: noise units, likewise.
        noise: rates, such as ``0.4``.
        validation: True for searches on validation alone, False for runs with test figures, None for the latter
            where there are any.

    Raises:
        UnknownNameError: a name that no result has.
        UsageError: a rate that is no number or that no result has.
    """
    kept = _named(results, "dataset", datasets, lambda s: {s["dataset"]})
    kept = _named(kept, "method", methods, lambda s: {s["method"], method_label(s), f"{s['method']}:{s['variant']}"})
    kept = _named(kept, "backbone", backbones, lambda s: {s["backbone"]})
    kept = _named(kept, "recipe", recipes, lambda s: {s["recipe"].get("name", "")})
    kept = _noisy(kept, "kind", kinds)
    kept = _noisy(kept, "unit", units)
    return _at_rates(_by_part(kept, validation), noise)


def _by_part(results: Sequence[Result], validation: bool | None) -> Sequence[Result]:
    held_out = [r for r in results if r["spec"].get("held_out", True)]
    if validation is None:
        return held_out or results
    return [r for r in results if r not in held_out] if validation else held_out


def _named(
    results: Sequence[Result], kind: str, wanted: Sequence[str], names: Callable[[Spec], set[str]]
) -> list[Result]:
    known = {name for r in results for name in names(r["spec"])}
    for name in wanted:
        if name not in known:
            raise UnknownNameError(f"{kind} in these results", name, known)
    return [r for r in results if not wanted or names(r["spec"]) & set(wanted)]


def _noisy(results: Sequence[Result], field: str, wanted: Sequence[str]) -> list[Result]:
    """Runs whose noise has a wanted kind or unit, and those without noise."""
    noisy = [r for r in results if r["spec"]["noise"]["kind"] != "none"]
    kept = {r["hash"] for r in _named(noisy, f"noise {field}", wanted, lambda s: {s["noise"][field]})}
    return [r for r in results if r["spec"]["noise"]["kind"] == "none" or r["hash"] in kept]


def _at_rates(results: Sequence[Result], wanted: Sequence[str]) -> list[Result]:
    if not wanted:
        return list(results)
    known = sorted({row_key(r["spec"]).rate for r in results})
    rates = set()
    for text in wanted:
        try:
            rate = float(text)
        except ValueError:
            rate = -1.0
        if rate not in known:
            raise UsageError(f"no result has noise rate '{text}'; rates there: {', '.join(f'{r:g}' for r in known)}")
        rates.add(rate)
    return [r for r in results if row_key(r["spec"]).rate in rates]
