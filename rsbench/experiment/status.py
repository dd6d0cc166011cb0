"""Where a results folder stands: what runs, is done, failed, killed or to come, and how long that takes. No torch."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rsbench.errors import ResultError
from rsbench.report.groups import method_label
from rsbench.results.folders import run_folders
from rsbench.results.frame import read_result
from rsbench.results.heartbeat import Beat, disk_clock, is_alive, read_beat
from rsbench.results.plans import Plan, Planned, remembered
from rsbench.results.store import RunFolder, read_json

STATES = ("running", "done", "failed", "partial", "waiting", "damaged")
"""``partial``: killed, goes on where it was; ``damaged``: files that cannot be read."""


@dataclass(frozen=True)
class RunStatus:
    """One run.

    Attributes:
        hash: name of its folder.
        label: method, dataset, noise and seed.
        state: one of ``STATES``.
        folder: where it is; None while it waits.
        reason: why it failed or is damaged, or how far a killed one came.
        beat: last sign of life of a running or killed one.
        mr: test mR of a finished run (validation mR for searches), best validation mR of a running one.
        seconds: a finished run took.
        left: seconds that it still needs; None where nothing is known.
    """

    hash: str
    label: str
    state: str
    folder: Path | None = None
    reason: str = ""
    beat: Beat | None = None
    mr: float | None = None
    seconds: float | None = None
    left: float | None = None


@dataclass(frozen=True)
class Status:
    """A results folder at one moment.

    Attributes:
        out: the folder.
        runs: all that are there or planned.
        left: seconds until all is done, at the present number of workers; None where nothing is known.
        driven: whether a driver of a plan lives; None where that cannot be told, or there is no plan.
    """

    out: Path
    runs: tuple[RunStatus, ...]
    left: float | None
    driven: bool | None

    def of(self, *states: str) -> list[RunStatus]:
        """The runs in these states."""
        return [r for r in self.runs if r.state in states]

    @property
    def counts(self) -> dict[str, int]:
        """Number of runs by state, all states."""
        found = Counter(r.state for r in self.runs)
        return {state: found[state] for state in STATES}

    @property
    def over(self) -> bool:
        """Whether nothing more will come of itself."""
        if self.of("running"):
            return False
        return self.driven is not True and (self.driven is False or not self.of("waiting", "partial"))


@dataclass
class Watcher:
    """Looks at a results folder again and again; a finished run is read once.

    Args:
        out: results folder.
    """

    out: Path
    _done: dict[Path, tuple[tuple[int, int], RunStatus]] = field(default_factory=dict)

    def look(self) -> Status:
        """What is there now.

        Raises:
            ResultError: there is no such folder.
        """
        folders = list(run_folders(self.out))
        clock = disk_clock(self.out) if any((f / "running.json").exists() for f in folders) else 0.0
        found = {r.hash: r for r in (self._look_at(f, clock) for f in folders) if r is not None}
        places = dict.fromkeys([self.out, *(f.parent for f in folders)])  # grids may lie in folders of their own
        plans = [plan for place in places for plan in remembered(place)]
        waiting = {p.hash: p for plan in plans for p in plan.runs if p.hash not in found}
        runs = [*found.values(), *(RunStatus(p.hash, p.label, "waiting", left=p.seconds) for p in waiting.values())]
        timed = _timed(runs, {p.hash: p for plan in plans for p in plan.runs})
        return Status(self.out, tuple(timed), _left(timed), _driven(plans))

    def _look_at(self, folder: Path, clock: float) -> RunStatus | None:
        file = folder / "result.json"
        try:
            stat = file.stat()
        except FileNotFoundError:
            return look_at(folder, clock)
        stamp = (stat.st_mtime_ns, stat.st_size)
        kept = self._done.get(file)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        run = look_at(folder, clock)
        if run is not None and run.state == "done":
            self._done[file] = stamp, run
        return run


def label_of(spec: Mapping[str, Any]) -> str:
    """A run in a few words, from its spec as stored."""
    try:
        return f"{method_label(spec)} {spec['dataset']} noise {float(spec['noise']['rate']):g} seed {spec['seed']}"
    except (KeyError, TypeError, ValueError):
        return "?"


def look_at(folder: Path, clock: float) -> RunStatus | None:
    """One run.

    Args:
        folder: of the run.
        clock: now, by the clock of its file system (``disk_clock``).

    Returns:
        None where nothing of a run is there, such as an empty lock alone.
    """
    return _finished(folder, clock) if (folder / "result.json").exists() else _unfinished(folder, clock)


def _finished(folder: Path, clock: float) -> RunStatus:
    try:
        result = read_result(folder / "result.json")
    except ResultError as error:
        return RunStatus(folder.name, "?", "damaged", folder, str(error))
    label = label_of(result["spec"])
    if result.get("status") != "done":
        again = _unfinished(folder, clock) if (folder / "running.json").exists() else None
        if again is not None and again.state == "running":
            return again
        return RunStatus(folder.name, label, "failed", folder, str(result.get("error", "no reason recorded")))
    try:
        part: Mapping[str, Any] = result.get("test") or result["val"]
        mr, seconds = float(part["best"]["mr"]), float(result["time"]["total"])
    except (KeyError, TypeError, ValueError):  # of another version; a table says what it lacks
        mr, seconds = None, None
    return RunStatus(folder.name, label, "done", folder, mr=mr, seconds=seconds, left=0.0)


def _unfinished(folder: Path, clock: float) -> RunStatus | None:
    """A run without a result; None where only an empty lock is left."""
    run, read = RunFolder(folder.parent, folder.name), read_beat(folder)
    held = run.held()
    beat, age = (None, 0.0) if read is None else (read[0], max(0.0, clock - read[1]))
    alive = held is True if beat is None else is_alive(beat, age, held)
    label = "?"
    if run.spec.exists():
        try:
            label = label_of(read_json(run.spec))
        except ResultError as error:
            if not alive:
                return RunStatus(folder.name, label, "damaged", folder, str(error))
    if alive:
        left = None if beat is None or beat.seconds_left is None else max(0.0, beat.seconds_left - age)
        return RunStatus(folder.name, label, "running", folder, "", beat, beat.mr if beat else None, None, left)
    if not (run.spec.exists() or run.checkpoint.exists()):
        return None
    how = "goes on from its checkpoint" if run.checkpoint.exists() else "starts anew"
    where = f" in epoch {min(beat.epoch + 1, beat.epochs)}/{beat.epochs} on {beat.host}" if beat else ""
    return RunStatus(folder.name, label, "partial", folder, f"killed{where}; {how}", beat, beat.mr if beat else None)


def _timed(runs: Sequence[RunStatus], planned: Mapping[str, Planned]) -> list[RunStatus]:
    """Runs with the seconds that they need: their own pace, the plan's estimate, or what others like them took."""
    took: dict[str, list[float]] = {}
    for run in runs:
        if run.state == "done" and run.seconds is not None:
            for key in ("", _kind(run)):
                took.setdefault(key, []).append(run.seconds)
    usual = {key: statistics.median(seconds) for key, seconds in took.items()}

    def timed(run: RunStatus) -> RunStatus:
        if run.state not in ("running", "partial", "waiting") or run.left is not None:
            return run
        estimate = planned[run.hash].seconds if run.hash in planned else None
        whole = usual.get(_kind(run), usual.get("")) if estimate is None else estimate
        done = run.beat.share if run.beat else 0.0
        return replace(run, left=None if whole is None else whole * (1.0 - done))

    return [timed(run) for run in runs]


def _kind(run: RunStatus) -> str:
    """Method and dataset: runs of one kind take about as long."""
    return " ".join(run.label.split()[:2])


def _left(runs: Sequence[RunStatus]) -> float | None:
    todo = [r for r in runs if r.state in ("running", "partial", "waiting")]
    known = [r.left for r in todo if r.left is not None]
    if not todo:
        return 0.0
    if not known:
        return None
    total = sum(known) / len(known) * len(todo)
    workers = sum(r.state == "running" for r in todo)
    return max(total / max(workers, 1), *known)


def _driven(plans: Sequence[Plan]) -> bool | None:
    states = {plan.driven for plan in plans}
    if True in states:
        return True
    return None if None in states or not states else False
