"""``rsbench published``: the numbers that papers print, with what speaks against quoting them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsbench.cli.emit import Format, emit_tables, one_format
from rsbench.cli.filters import split_names
from rsbench.errors import UsageError


def published(
    paper: Annotated[str, typer.Option(help="Only these papers (comma separated): rrsitr, srem.")] = "",
    table: Annotated[str, typer.Option(help="Only these tables of the papers, by number.")] = "",
    dataset: Annotated[str, typer.Option(help="Only these datasets, as printed: rsitmd, coco1k.")] = "",
    noise: Annotated[str, typer.Option(help="Only these noise rates, for example 0,0.4; real: rate unknown.")] = "",
    method: Annotated[str, typer.Option(help="Only these methods, for example srem,ncr.")] = "",
    form: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = Format.text,
    std: Annotated[bool, typer.Option("--std/--no-std", help="Show ± where it is printed.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Browse published numbers; marked rows have their reasons below the table."""
    one_format(form, as_json)
    from rsbench.report.published import Filter, browse, noise_word, published_tables
    from rsbench.results.published import load_published

    filters = [
        Filter("paper", tuple(split_names(paper)), lambda r: r.paper),
        Filter("table", tuple(split_names(table)), lambda r: str(r.table)),
        Filter("dataset", tuple(split_names(dataset)), lambda r: r.dataset),
        Filter("noise", tuple(_rate(word) for word in split_names(noise)), noise_word),
        Filter("method", tuple(split_names(method)), lambda r: r.method),
    ]
    rows = browse(load_published(), [f for f in filters if f.wanted])
    emit_tables(published_tables(rows), form, as_json, output, std)


def _rate(word: str) -> str:
    """``0.40`` as ``0.4``, the way rates are shown."""
    if word == "real":
        return word
    try:
        return f"{float(word):g}"
    except ValueError:
        raise UsageError(f"--noise '{word}': give rates such as 0.4, or real") from None
