"""From specs to jobs: what is done, partial, failed or new. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rsbench.errors import UsageError
from rsbench.experiment.spec import RunSpec
from rsbench.results.store import RunFolder

OVERWRITE = ("never", "missing", "always")


@dataclass(frozen=True)
class Job:
    """One run of a plan.

    Attributes:
        state: ``done``, ``partial``, ``failed`` or ``new``.
        todo: whether it will be run.
        restart: whether what is there is forgotten first.
    """

    spec: RunSpec
    state: str
    todo: bool
    restart: bool = False


def make_plan(specs: Sequence[RunSpec], out: Path, overwrite: str = "missing") -> list[Job]:
    """Jobs of some specs.

    Args:
        specs: what is asked for.
        out: results folder.
        overwrite: ``never`` touches no folder that exists; ``missing`` runs what has no finished result and
            resumes what was killed; ``always`` runs everything anew.

    Raises:
        UsageError: unknown overwrite word.
        ResultError: a damaged or newer result.
    """
    if overwrite not in OVERWRITE:
        raise UsageError(f"--overwrite '{overwrite}' is unknown; use one of {', '.join(OVERWRITE)}")
    jobs = []
    for spec in specs:
        state = RunFolder(out, spec.hash).state()
        todo = {"never": state == "new", "missing": state != "done", "always": True}[overwrite]
        jobs.append(Job(spec, state, todo, restart=overwrite == "always"))
    return jobs


def counts(jobs: Sequence[Job]) -> dict[str, int]:
    """Number of jobs in each state."""
    return dict(Counter(j.state for j in jobs))
