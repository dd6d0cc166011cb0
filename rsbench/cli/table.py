"""``rsbench table``: stored results as the tables of a paper."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsbench.cli.console import console, errors
from rsbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsbench.results.schema import Result


class Format(StrEnum):
    """Output formats."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"


DEFAULT = [Path("results")]


def table(
    results: Annotated[list[Path], typer.Argument(help="Folders of results, searched recursively.")] = DEFAULT,
    form: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = Format.text,
    dataset: Annotated[str, typer.Option(help="Only these datasets (comma separated).")] = "",
    method: Annotated[str, typer.Option(help="Only these methods: srem, or srem:VARIANT.")] = "",
    backbone: Annotated[str, typer.Option(help="Only these backbones.")] = "",
    noise: Annotated[str, typer.Option(help="Only these noise rates, for example 0,0.4.")] = "",
    noise_kind: Annotated[str, typer.Option(help="Only these noise kinds, beside runs without noise.")] = "",
    noise_unit: Annotated[str, typer.Option(help="Only these noise units, beside runs without noise.")] = "",
    recipe: Annotated[str, typer.Option(help="Only these recipes: common, paper.")] = "",
    sort: Annotated[str, typer.Option(help="Order within a rate: mr, another metric, method or backbone.")] = "mr",
    validation: Annotated[bool, typer.Option("--validation", help="Only searches on validation.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="Noise rates as columns of mR.")] = False,
    pool: Annotated[str, typer.Option(help="Average over these settings although they differ.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Print mean ± sample standard deviation over seeds, best bold, second underlined."""
    if as_json and form is not Format.text:
        raise UsageError(f"--json and --format {form} exclude each other; give one of them")
    from rsbench.report.build import build_tables
    from rsbench.report.select import select
    from rsbench.results.frame import load_results

    found = load_results(results)
    chosen = select(
        found,
        datasets=_names(dataset),
        methods=_names(method),
        backbones=_names(backbone),
        recipes=_names(recipe),
        kinds=_names(noise_kind),
        units=_names(noise_unit),
        noise=_names(noise),
        validation=validation or None,
    )
    _tell_hidden(found, chosen)
    tables = build_tables(chosen, sort=sort, pool=_names(pool), wide=wide)
    if form is Format.text and not as_json and output is None:
        from rsbench.report.text import show

        show(console, tables)
        return
    from rsbench.report.formats import render

    _emit(render(tables, "json" if as_json else form.value), output)


def _tell_hidden(found: Sequence[Result], chosen: Sequence[Result]) -> None:
    """Say on stderr that searches on validation stand beside what is shown."""
    searches = sum(not r["spec"].get("held_out", True) for r in found)
    if searches and all(r["spec"].get("held_out", True) for r in chosen):
        errors.print(f"searches on validation that are not shown: {searches} (see them with --validation)", style="dim")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _emit(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder '{output.parent}' for --output; make it first: mkdir -p {output.parent}")
    from rsbench.files import write_atomic

    write_atomic(output, text.encode())
    typer.echo(f"wrote {output}", err=True)
