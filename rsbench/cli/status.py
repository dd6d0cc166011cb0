"""``rsbench status``: where a grid stands, once or live."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsbench.cli.console import PIPE_WIDTH, console, errors, print_json, spoken
from rsbench.errors import RsbenchError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rsbench.experiment.status import RunStatus, Status

REFRESH = 1.0
"""Seconds between two looks."""

MOST = 12
"""Lines of one kind that the live view shows."""


def status(
    results: Annotated[Path, typer.Argument(help="Results folder.")] = Path("results"),
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay and refresh until all is done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what runs (epoch, ETA, val mR, host), is done, failed, killed or waiting.

    rsbench status results/toy --watch
    """
    from rsbench.experiment.status import Watcher

    watcher = Watcher(results)
    now = watcher.look()
    if as_json:
        print_json(as_dict(now))
        return
    if not now.runs:
        console.print(f"no runs in {results}; make some with: rsbench run --out {results}", markup=False)
        return
    if not (watch and console.is_terminal):
        _print(now)
        return
    now = _live(watcher, now)
    _print_tables(now)
    if now.of("failed", "damaged"):
        raise typer.Exit(1)


def as_dict(now: Status) -> dict[str, Any]:
    """A status in JSON types: ``counts``, ``seconds_left`` and one dict per run."""
    return {
        "results": str(now.out),
        "counts": now.counts,
        "seconds_left": now.left,
        "driver": {True: "alive", False: "gone", None: "unknown"}[now.driven],
        "runs": [_run(run) for run in now.runs],
    }


def _run(run: RunStatus) -> dict[str, Any]:
    from dataclasses import asdict

    plain = asdict(run) | {"folder": None if run.folder is None else str(run.folder)}
    return {("seconds_left" if k == "left" else k): v for k, v in plain.items()}


def _live(watcher: Any, now: Status) -> Status:
    """Redraw until nothing more comes; the last picture stays."""
    from rich.live import Live

    with Live(view(now, MOST), console=console, auto_refresh=False) as live:
        while not now.over:
            time.sleep(REFRESH)
            now = watcher.look()
            live.update(view(now, MOST), refresh=True)
    return now


def _print(now: Status) -> None:
    if console.is_terminal:
        console.print(view(now, len(now.runs)))
    else:
        from rich.console import Console

        Console(width=PIPE_WIDTH, highlight=False).print(view(now, len(now.runs)))


def _print_tables(now: Status) -> None:
    """The grid's tables, as ``rsbench table`` prints them."""
    from rsbench.cli.emit import Format, emit_tables
    from rsbench.report.build import build_tables
    from rsbench.results.frame import read_result

    done = [read_result(run.folder / "result.json") for run in now.of("done") if run.folder]
    try:
        emit_tables(build_tables(done), Format.text, False, None)
    except RsbenchError as error:
        errors.print(str(error), markup=False, soft_wrap=True)


def view(now: Status, most: int) -> RenderableType:
    """The picture of a status.

    Args:
        now: what to draw.
        most: lines of each kind; the rest is counted.
    """
    from rich.console import Group

    parts: list[RenderableType] = [headline(now)]
    if running := now.of("running"):
        parts.append(_running(running, most))
    for state in ("failed", "damaged", "partial"):
        parts += _reasons(state, now.of(state), most)
    return Group(*parts)


def headline(now: Status) -> str:
    """Counts and remaining time as one line."""
    counts = ", ".join(f"{n} {state}" for state, n in now.counts.items() if n)
    todo = now.of("running", "partial", "waiting")
    if not todo:
        end = ""
    elif not now.of("running") and now.driven is not True:
        end = "; nobody is working on the rest: start the same command again" if now.driven is False else "; none runs"
    else:
        end = f"; about {spoken(now.left)} left" if now.left is not None else "; time left unknown"
    return f"{now.out}: {len(now.runs)} runs: {counts}{end}"


def _running(runs: list[RunStatus], most: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table("run", "what", "epoch", "val mR", "left", "host", box=None, pad_edge=False, header_style="bold")
    for run in runs[:most]:
        beat = run.beat
        epoch = "starting" if beat is None or beat.first_at is None else _epoch(run)
        mr = "" if run.mr is None else f"{run.mr:.1f}"
        left = "" if run.left is None else spoken(run.left)
        host = "" if beat is None else f"{beat.host} {beat.device}"
        table.add_row(*(Text(cell) for cell in (run.hash, run.label, epoch, mr, left, host)))
    if len(runs) > most:
        table.add_row("", f"and {len(runs) - most} more")
    return table


def _epoch(run: RunStatus) -> str:
    assert run.beat is not None
    doing = f" {run.beat.doing}" if run.beat.doing else ""
    return f"{min(run.beat.epoch + 1, run.beat.epochs)}/{run.beat.epochs}{doing}"


def _reasons(state: str, runs: list[RunStatus], most: int) -> list[RenderableType]:
    from rich.text import Text

    lines = [Text(f"{state}: {r.hash} {r.label}: {' '.join(r.reason.split())}") for r in runs[:most]]
    return [*lines, *([Text(f"{state}: and {len(runs) - most} more")] if len(runs) > most else [])]
