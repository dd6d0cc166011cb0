"""``rsbench audit``: which pairs of a dataset look mismatched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsbench.cli.console import console, errors, print_rows, progress_bar
from rsbench.cli.launching import launch_plan
from rsbench.errors import UsageError

if TYPE_CHECKING:
    from rsbench.experiment.audit import Report
    from rsbench.experiment.plan import Job

SHOWN = 10
"""Rows printed."""


def audit(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="A prepared dataset (see `rsbench list datasets`).")],
    method: Annotated[str, typer.Option("--method", "-m", help="Method: NAME, NAME:VARIANT or FILE.py.")],
    seeds: Annotated[int, typer.Option("--seeds", "-s", help="Number of run seeds: 0 to N-1.")] = 3,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for ranking, page and runs; default: audit-DATASET-METHOD."),
    ] = None,
    noise: Annotated[float, typer.Option("--noise", "-n", help="Inject this rate first, as a self-test.")] = 0.0,
    epoch: Annotated[str, typer.Option(help="Epoch whose scores count: last or best (by validation mR).")] = "last",
    top: Annotated[int, typer.Option(help="Pairs on the page.")] = 48,
    split: Annotated[str | None, typer.Option(help="Split scheme; default: the dataset's.")] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", "-b", help="Backbone; default: the dataset's.")] = None,
    tuning: Annotated[str | None, typer.Option(help="Tuning: heads, full; default: the dataset's.")] = None,
    weights: Annotated[str | None, typer.Option(help="Weights: bundled, hub, random or a local file.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Field to set, such as recipe.batch_size=32.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Worker processes; 0 = one per core (one on a GPU).")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    root: Annotated[
        Path | None, typer.Option(help="Data folder; default: $RSBENCH_DATA, else ~/.cache/rsbench.")
    ] = None,
) -> None:
    """Train a method on a dataset's own pairs with several seeds and rank the pairs by how mismatched they look.

    rsbench audit rsitmd --method rcl --seeds 3
    """
    if top < 1:
        raise UsageError(f"--top {top}: give the number of pairs on the page, for example --top 48")
    if epoch not in ("last", "best"):
        raise UsageError(f"--epoch '{epoch}' is unknown; use last or best")
    from rsbench.data.root import data_root
    from rsbench.experiment.audit import audit_runs, write_report
    from rsbench.report.plots import require_extra

    require_extra()
    folder, data = out or Path(_folder_name(dataset, method)), data_root(root)
    planned = _plan(context.params, folder / "runs", data)
    asked = {**context.params, "out": folder / "runs", "overwrite": "missing", "no_weights": True}
    if launch_plan(planned, asked):
        raise typer.Exit(1)
    with progress_bar() as progress:
        report = audit_runs([folder / "runs" / j.spec.hash for j in planned], data, epoch == "best", progress)
    write_report(report, folder, top)
    _print(report, folder)
    if seeds == 1:
        errors.print("one seed shows no agreement; use --seeds 3 or more")


def _plan(asked: dict[str, Any], runs: Path, data: Path) -> list[Job]:
    """One job per seed."""
    from rsbench.experiment.audit import audit_request
    from rsbench.experiment.plan import make_plan
    from rsbench.experiment.request import parse_rates, parse_seeds, parse_settings
    from rsbench.experiment.resolve import resolve

    settings = parse_settings(asked["settings"] or [])
    if grid := next((k for k, v in settings.items() if len(v) > 1), None):
        raise UsageError(f"--set {grid}={','.join(settings[grid])}: an audit takes one value of each field")
    (rate,), seeds = parse_rates(str(asked["noise"])), parse_seeds(asked["seeds"], None)
    flags = {k: asked[k] for k in ("split", "backbone", "tuning", "weights")}
    request = audit_request(asked["dataset"], asked["method"], seeds, rate, settings=settings, **flags)
    with progress_bar() as progress:
        return make_plan(resolve(request, data, progress), runs)


def _print(report: Report, folder: Path) -> None:
    from rsbench.experiment.audit import rows

    for name, value in report.facts:
        console.print(f"{name}: {value}", markup=False, soft_wrap=True)
    console.print()
    headers, lines = rows(report, SHOWN)
    print_rows(headers, [[_printable(cell) for cell in line] for line in lines])
    console.print()
    console.print(f"ranking: {folder / 'audit.csv'}, page: {folder / 'index.html'}", markup=False, soft_wrap=True)


def _printable(text: str) -> str:
    """Without line breaks and control characters, which a terminal would obey."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def _folder_name(dataset: str, method: str) -> str:
    """``audit-DATASET-METHOD`` without characters that a file system may refuse."""
    words = "".join(c if c.isalnum() or c in "-_." else "-" for c in f"{dataset}-{Path(method).name}")
    return f"audit-{words}"
