"""What the terminal shows: results on stdout, errors and progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from rsbench.progress import Progress, silent

console = Console(highlight=False)
"""stdout; without colours when it is a pipe."""

errors = Console(stderr=True, highlight=False)
"""stderr."""

PIPE_WIDTH = 10_000
"""Columns of a pipe, so that no line is wrapped."""

LIVE = " | "
"""Separates the name of a bar from the live text behind it, as in ``"srem seed 1 | mR 41.2"``."""


def say_error(message: str) -> None:
    """Print ``error: ...`` as one line, whatever the width of the terminal."""
    one_line = " ".join(message.split())
    errors.print("[bold red]error:[/] ", end="")
    errors.print(one_line, markup=False, soft_wrap=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Yield a ``Progress`` that draws one bar with its remaining time per name; silent when stderr is no terminal."""
    if not errors.is_terminal:
        yield silent
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, TextColumn("{task.fields[live]}"), console=errors, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def update(what: str, done: int, total: int) -> None:
            name, _, live = what.partition(LIVE)
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total, live=live)
            bars.update(tasks[name], completed=done, total=total, live=live)
            if done >= total:
                bars.remove_task(tasks.pop(name))

        yield update


def print_rows(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns on stdout; lines are never cut or wrapped in a pipe."""
    table = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if console.is_terminal:
        console.print(table)
    else:
        Console(width=PIPE_WIDTH, highlight=False).print(table)


def print_json(data: Any) -> None:
    """Print data as JSON on stdout, the same on a terminal and in a pipe."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def spoken(seconds: float) -> str:
    """A duration as one reads it: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
