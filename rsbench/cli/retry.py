"""``rsbench retry``: runs that failed once more, exactly as their specs say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsbench.cli.console import console, errors, print_rows
from rsbench.cli.run import Device, Jobs, Launch, Launcher, NoWeights, Root

if TYPE_CHECKING:
    from rsbench.experiment.plan import Job


def retry(
    results: Annotated[Path, typer.Argument(help="Results folder.")] = Path("results"),
    failed: Annotated[bool, typer.Option("--failed", help="Failed runs (the default).")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Killed runs, from their checkpoints.")] = False,
    jobs: Jobs = 0,
    launcher: Launcher = "local",
    launch: Launch = None,
    device: Device = "auto",
    root: Root = None,
    no_weights: NoWeights = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and stop.")] = False,
) -> None:
    """Run failed runs of a results folder again.

    rsbench retry results/toy --failed
    """
    from rsbench.experiment.again import jobs_again
    from rsbench.experiment.status import Watcher

    states = [s for s, wanted in (("failed", failed or not partial), ("partial", partial)) if wanted]
    runs = Watcher(results).look().of(*states)
    plans, left = jobs_again(runs)
    for line in left:
        errors.print(f"left out: {line}", markup=False, soft_wrap=True)
    if not plans:
        console.print(f"no {' or '.join(states)} runs to try again in {results}", markup=False)
    elif dry_run:
        print_rows(("run", "what", "state", "reason"), [(r.hash, r.label, r.state, r.reason) for r in runs])
    asked: dict[str, Any] = {"overwrite": "missing", "root": root, "device": device}
    asked |= {"no_weights": no_weights, "jobs": jobs, "launcher": launcher, "launch": launch}
    if (not dry_run and _launch(plans, asked)) or left:
        raise typer.Exit(1)


def _launch(plans: dict[Path, list[Job]], asked: dict[str, Any]) -> int:
    """Run the jobs of each results folder; the number of failures."""
    from rsbench.cli.launching import launch_plan

    return sum(launch_plan(jobs, {**asked, "out": out}) for out, jobs in plans.items())
