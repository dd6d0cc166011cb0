"""Tables to the terminal, a pipe or a file, in the format that was asked for."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rsbench.cli.console import console
from rsbench.errors import UsageError

if TYPE_CHECKING:
    from rsbench.report.table import Table

DEFAULT = [Path("results")]


class Format(StrEnum):
    """Output formats."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    html = "html"


def one_format(form: Format, as_json: bool) -> None:
    """Refuse two formats at once.

    Raises:
        UsageError: ``--json`` beside another format.
    """
    if as_json and form is not Format.text:
        raise UsageError(f"--json and --format {form} exclude each other; give one of them")


def emit_tables(tables: list[Table], form: Format, as_json: bool, output: Path | None, std: bool = True) -> None:
    """Print tables, or write them to a file.

    Args:
        tables: to show.
        form: format; the terminal's own where it is text and nothing is written.
        as_json: JSON instead.
        output: file, None for stdout.
        std: with deviations.

    Raises:
        UsageError: the folder of the file is not there.
    """
    if not std:
        from rsbench.report.table import without_std

        tables = [without_std(t) for t in tables]
    if form is Format.text and not as_json and output is None:
        from rsbench.report.text import show

        show(console, tables)
        return
    from rsbench.report.formats import render

    _emit(render(tables, "json" if as_json else form.value), output)


def _emit(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder '{output.parent}' for --output; make it first: mkdir -p {output.parent}")
    from rsbench.files import write_atomic

    write_atomic(output, text.encode())
    typer.echo(f"wrote {output}", err=True)
