"""Jobs from stored runs: what failed or was killed once more, exactly as its spec says. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rsbench.errors import ResultError, RsbenchError
from rsbench.experiment.plan import Job, make_plan
from rsbench.experiment.spec import RunSpec
from rsbench.experiment.status import RunStatus
from rsbench.results.store import RunFolder, read_json


def jobs_again(runs: Iterable[RunStatus]) -> tuple[dict[Path, list[Job]], list[str]]:
    """Plan stored runs again.

    Args:
        runs: those that are not finished and not being worked on.

    Returns:
        Jobs by the results folder that they are in, and a line for each run whose spec cannot be used.
    """
    specs: dict[Path, list[RunSpec]] = {}
    left = []
    for run in runs:
        if run.folder is None:
            continue
        try:
            specs.setdefault(run.folder.parent, []).append(stored_spec(run.folder))
        except RsbenchError as error:
            left.append(str(error))
    return {out: make_plan(found, out) for out, found in specs.items() if found}, left


def stored_spec(folder: Path) -> RunSpec:
    """The spec of a run folder.

    Raises:
        ResultError: damaged, or of another version: rebuilt, it would name another folder.
    """
    run = RunFolder(folder.parent, folder.name)
    data = read_json(run.spec) if run.spec.exists() else dict(run.read_result().get("spec", {}))
    try:
        spec = RunSpec.from_dict(data)
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(f"run {folder.name} has a spec that this version cannot read ({error})") from None
    if spec.hash != folder.name:
        raise ResultError(f"run {folder.name} has a spec of another version or another run (hash {spec.hash})")
    return spec
