"""``rsbench logs``: what a run writes, as it writes it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from rsbench.errors import ResultError, UsageError

POLL = 0.5
"""Seconds between two looks at a growing log."""


def logs(
    run: Annotated[str, typer.Argument(help="Folder of a run, or the first digits of its hash.")],
    results: Annotated[Path, typer.Option("--results", "-r", help="Where runs are looked for.")] = Path("results"),
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the run ends.")] = False,
    lines: Annotated[int | None, typer.Option("--lines", "-n", help="Only the last N lines.")] = None,
) -> None:
    """Print a run's log; follow it while it runs.

    rsbench logs 008a -f -n 5
    """
    from rsbench.results.folders import find_run

    if lines is not None and lines < 0:
        raise UsageError(f"--lines {lines}: give 0 or more")
    folder = find_run(run, results)
    file = folder / "log.txt"
    if not (file.exists() or follow):
        raise ResultError(f"run {folder.name} has written no log yet; wait for it with: rsbench logs {run} -f")
    content = file.read_bytes() if file.exists() else b""
    shown = content.splitlines(keepends=True)
    _show(b"".join(shown if lines is None else shown[max(0, len(shown) - lines) :]))
    if follow:
        _follow(folder, len(content))


def _show(content: bytes) -> None:
    typer.echo(content.decode("utf-8", errors="replace"), nl=False)


def _follow(folder: Path, at: int) -> None:
    """Print what is added from byte ``at`` on, until nobody works on the run any more."""
    file = folder / "log.txt"
    while True:
        working = _working(folder)  # asked first, so that the last lines are read after the end
        if file.exists():
            with file.open("rb") as log:
                size = log.seek(0, 2)
                log.seek(at if at <= size else 0)  # shorter than before: the run was started anew
                added = log.read()
                at = log.tell()
            _show(added)
        if not working:
            return
        time.sleep(POLL)


def _working(folder: Path) -> bool:
    from rsbench.experiment.status import look_at
    from rsbench.results.heartbeat import disk_clock

    run = look_at(folder, disk_clock(folder))
    return run is not None and run.state == "running"
