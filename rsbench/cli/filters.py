"""Filters that the verbs over stored results share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsbench.results.schema import Result

Dataset = Annotated[str, typer.Option(help="Only these datasets (comma separated).")]
Backbone = Annotated[str, typer.Option(help="Only these backbones.")]
Noise = Annotated[str, typer.Option(help="Only these noise rates, for example 0,0.4.")]
NoiseKind = Annotated[str, typer.Option(help="Only these noise kinds, beside runs without noise.")]
NoiseUnit = Annotated[str, typer.Option(help="Only these noise units, beside runs without noise.")]
Recipe = Annotated[str, typer.Option(help="Only these recipes: common, paper.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")]


def chosen(
    results: Sequence[Result], methods: Sequence[str] = (), validation: bool | None = None, **filters: str
) -> list[Result]:
    """Results that match every filter.

    Args:
        results: what to choose from.
        methods: ``srem`` (all its variants) or ``srem:variant``.
        validation: as for ``select``.
        filters: further filters of ``select`` as comma lists.

    Raises:
        UnknownNameError: a name that no result has.
        UsageError: a rate that is no number or that no result has.
    """
    from rsbench.report.select import select

    lists = {name: split_names(text) for name, text in filters.items()}
    return select(results, methods=methods, validation=validation, **lists)


def split_names(text: str) -> list[str]:
    """``a,b,c`` without empty items."""
    return [name.strip() for name in text.split(",") if name.strip()]
