"""``rsbench plan``: the runs of a grid, their state, and how long they will take."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from rsbench.cli.asking import Asked, Planned, plan_of, typed_parts
from rsbench.cli.benchmark import show_table, table_lines
from rsbench.cli.console import console, print_rows, spoken
from rsbench.cli.live import label

if TYPE_CHECKING:
    from rsbench.experiment.plan import Job

RUN_ONLY = ("device", "dry_run", "no_weights")
"""Flags of ``run`` that mean nothing to ``plan``."""


def plan(context: typer.Context, **flags: object) -> None:
    """Show the runs that `rsbench run` with the same flags would do, with their state."""
    parts = typed_parts(context, context.params["config"])
    show_plan(plan_of(parts), parts[0])


def share_flags(run: Callable[..., None]) -> None:
    """Give ``plan`` the flags of ``run``: one list of flags for both."""
    signature = inspect.signature(run, eval_str=True)
    kept = [p for p in signature.parameters.values() if p.name not in RUN_ONLY]
    plan.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    plan.__annotations__ = {p.name: p.annotation for p in kept}


def show_plan(planned: Planned, asked: Asked) -> None:
    """Print every run with its state and estimated time, then the sums.

    Args:
        planned: jobs and problems.
        asked: parameters of the command.
    """
    from rsbench.experiment.estimate import read_past

    past = read_past(asked["out"])
    seconds = {j.spec.hash: past.seconds(j.spec) for j in planned.jobs}
    if asked["as_json"]:
        _print_json(planned, seconds)
        return
    lines = [[j.spec.hash, label(j), j.state, *_todo(j, seconds[j.spec.hash])] for j in planned.jobs]
    if lines:
        print_rows(("run", "what", "state", "will run", "takes"), lines)
    show_impossible(planned)
    console.print(_sums(planned, seconds, asked), markup=False, soft_wrap=True)
    if planned.published:
        show_table(planned.published)


def show_impossible(planned: Planned) -> None:
    """Print what cannot be run, with the reasons."""
    from rsbench.experiment.plan import IMPOSSIBLE

    rows = [(p.label, str(p.runs), str(p.error)) for p in planned.problems]
    rows += [(label(j), "1", j.reason) for j in planned.jobs if j.state == IMPOSSIBLE]
    if rows:
        print_rows(("impossible", "runs", "why"), rows)


def _todo(job: Job, seconds: float | None) -> tuple[str, str]:
    return ("yes", "?" if seconds is None else spoken(seconds)) if job.todo else ("no", "")


def _sums(planned: Planned, seconds: dict[str, float | None], asked: Asked) -> str:
    from rsbench.cli.launching import parallel_runs
    from rsbench.experiment.estimate import wall_seconds
    from rsbench.experiment.plan import IMPOSSIBLE, counts

    found = counts(planned.jobs)
    impossible = found.pop(IMPOSSIBLE, 0) + sum(p.runs for p in planned.problems)
    states = [f"{n} {state}" for state, n in found.items()] + ([f"{impossible} impossible"] if impossible else [])
    todo = [seconds[j.spec.hash] for j in planned.jobs if j.todo]
    runs = len(planned.jobs) + sum(p.runs for p in planned.problems)
    text = f"{runs} runs: {', '.join(states) or 'none'}; {len(todo)} to do"
    known = [s for s in todo if s is not None]
    if not known:
        return text
    slots = parallel_runs(asked)
    text += f", about {spoken(wall_seconds(known, slots))} with {slots} at a time ({spoken(sum(known))} of work)"
    return text + (f", not counting {len(todo) - len(known)} whose length is unknown" if len(known) < len(todo) else "")


def _print_json(planned: Planned, seconds: dict[str, float | None]) -> None:
    from rsbench.experiment.plan import IMPOSSIBLE

    rows: list[dict[str, Any]] = [
        {"hash": j.spec.hash, "state": j.state, "todo": j.todo, "seconds": seconds[j.spec.hash]}
        | ({"reason": j.reason} if j.reason else {})
        | {"spec": j.spec.as_dict()}
        for j in planned.jobs
    ]
    rows += [
        {"hash": None, "state": IMPOSSIBLE, "todo": False, "runs": p.runs, "reason": str(p.error), "asked": p.asked}
        for p in planned.problems
    ]
    published = planned.published
    print(json.dumps(rows if published is None else {**table_lines(published), "jobs": rows}, indent=1))
