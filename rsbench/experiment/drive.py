"""Several drivers on one results folder: what one holds, the others leave alone and wait for. No torch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsbench.errors import BusyError, RsbenchError
from rsbench.experiment.launch.base import Launch, Notify, Outcome
from rsbench.experiment.plan import Job
from rsbench.results.store import RunFolder

if TYPE_CHECKING:
    from rsbench.experiment.run import Options

LOOK_SECONDS = 1.0
"""How often the runs of others are looked at."""

FREE = "free"
"""Status of a run whose process has gone before its end."""

PATIENCE = 1800.0
"""Seconds after which a run is given up on whose folder is held and does not change."""


def drive(
    launch: Launch,
    jobs: Sequence[Job],
    options: Options,
    settings: Any,
    notify: Notify,
    waiting: Callable[[int], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Run jobs through a launcher; those that another process holds are waited for, and run where it dies.

    Args:
        launch: the launcher.
        jobs: what to run, longest first.
        options: of every run.
        settings: of the launcher.
        notify: told about progress.
        waiting: told once, with the number of runs that others hold, when nothing else is left to do.

    Yields:
        One outcome a job; ``busy`` only where the other process shows no sign of life.
    """
    held: dict[str, _Held] = {}
    todo, told = list(jobs), False
    while todo or held:
        for outcome in launch(todo, options, settings, notify) if todo else ():
            if outcome.status == "busy":
                held[outcome.job.spec.hash] = _Held(outcome, options)
            else:
                yield outcome
        if held and not told:
            waiting(len(held))
            told = True
        looked = {name: run.look() for name, run in held.items()}
        ended = [o for o in looked.values() if o is not None]
        held = {name: run for name, run in held.items() if looked[name] is None}
        # what was to be forgotten first, the other process has forgotten
        todo = [dataclasses.replace(o.job, restart=False) for o in ended if o.status == FREE]
        yield from (o for o in ended if o.status != FREE)
        if held and not todo:
            time.sleep(LOOK_SECONDS)


class _Held:
    """A run that another process works on.

    Args:
        outcome: what the launcher said of it.
        options: of every run.
    """

    def __init__(self, outcome: Outcome, options: Options) -> None:
        self.outcome, self.folder = outcome, RunFolder(options.out, outcome.job.spec.hash)
        self._result = _stamp(self.folder.result)
        self._seen, self._since = self._print(), time.monotonic()

    def look(self) -> Outcome | None:
        """How it ended.

        Returns:
            ``done`` or ``failed`` by the other process, ``free`` where that left it unfinished, ``busy`` where it is
            silent; None while it goes on.
        """
        job = self.outcome.job
        try:
            with self.folder.claimed():
                state = self.folder.state()
        except BusyError:
            return self._silent()
        except RsbenchError as error:
            return Outcome(job, "failed", str(error))
        if state == "done" or (state == "failed" and _stamp(self.folder.result) != self._result):
            result = dict(self.folder.read_result())
            return Outcome(job, state, str(result.get("error", "")), result if state == "done" else None)
        return Outcome(job, FREE)

    def _silent(self) -> Outcome | None:
        seen, now = self._print(), time.monotonic()
        if seen != self._seen:
            self._seen, self._since = seen, now
        return self.outcome if now - self._since > PATIENCE else None

    def _print(self) -> frozenset[tuple[str, int]]:
        """What changes when the other process does something, whatever its clock says."""
        folder = self.folder.path
        names = [p for p in folder.iterdir() if p.name != ".lock"] if folder.is_dir() else []
        return frozenset((p.name, _stamp(p)) for p in names)


def _stamp(path: Path) -> int:
    """Modification time in nanoseconds, 0 where there is no file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
