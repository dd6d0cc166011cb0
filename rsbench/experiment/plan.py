"""From specs to jobs: what is done, partial, failed or new. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rsbench.errors import ResultError, UsageError
from rsbench.experiment.spec import RunSpec
from rsbench.results.store import RunFolder

OVERWRITE = ("never", "missing", "always")

IMPOSSIBLE = "impossible"
"""State of a run that cannot be started; its reason says why."""


@dataclass(frozen=True)
class Job:
    """One run of a plan.

    Attributes:
        state: ``done``, ``partial``, ``failed`` or ``new``; ``impossible`` where its folder is damaged.
        todo: whether it will be run.
        restart: whether what is there is forgotten first.
        reason: why it is impossible.
    """

    spec: RunSpec
    state: str
    todo: bool
    restart: bool = False
    reason: str = ""


def make_plan(specs: Sequence[RunSpec], out: Path, overwrite: str = "missing") -> list[Job]:
    """Jobs of some specs.

    Args:
        specs: what is asked for.
        out: results folder.
        overwrite: ``never`` touches no folder that exists; ``missing`` runs what has no finished result and
            resumes what was killed; ``always`` runs everything anew.

    A damaged or newer result makes its own job impossible, unless everything is run anew.

    Raises:
        UsageError: unknown overwrite word.
    """
    if overwrite not in OVERWRITE:
        raise UsageError(f"--overwrite '{overwrite}' is unknown; use one of {', '.join(OVERWRITE)}")
    return [_job(spec, out, overwrite) for spec in specs]


def _job(spec: RunSpec, out: Path, overwrite: str) -> Job:
    try:
        state = RunFolder(out, spec.hash).state()
    except ResultError as error:
        if overwrite != "always":
            return Job(spec, IMPOSSIBLE, todo=False, reason=str(error))
        state = "failed"
    todo = {"never": state == "new", "missing": state != "done", "always": True}[overwrite]
    return Job(spec, state, todo, restart=overwrite == "always")


def counts(jobs: Sequence[Job]) -> dict[str, int]:
    """Number of jobs in each state."""
    return dict(Counter(j.state for j in jobs))
