"""Signs of life of a run in progress: written as it goes, read by whoever watches. No torch."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType

from rsbench import __version__
from rsbench.files import temporary

RUNNING = "running.json"
EVERY = 2.0
"""Seconds between two writes, at least."""

PATIENCE = 5.0
"""How many of its own longest pauses a run on another machine may be silent before it counts as dead."""

LEAST_PATIENCE = 120.0
"""Seconds; below it, caches of network file systems would make live runs look dead."""


@dataclass(frozen=True)
class Beat:
    """Content of ``running.json``; times are seconds of the writer's own clock.

    Attributes:
        host: machine that writes.
        pid: process there.
        device: ``cpu``, ``cuda:0``, or as asked for while it is not chosen yet.
        started: when this process took the run up.
        updated: when this was written.
        epoch: running epoch, from 0; equal to ``epochs`` once training is over.
        step: within the epoch, of ``steps``.
        mr: best validation mR so far, in percent.
        doing: what keeps it from the next step.
        version: rsbench.
        pause: longest time between two ticks so far.
        first: share of the training that was done at the first tick, 0 unless resumed.
        first_at: when that was; None before it.
    """

    host: str
    pid: int
    device: str
    started: float
    updated: float
    epoch: int
    epochs: int
    step: int
    steps: int
    mr: float | None
    doing: str
    version: str
    pause: float
    first: float = 0.0
    first_at: float | None = None

    @property
    def share(self) -> float:
        """Share of the training that is done."""
        return min(1.0, (self.epoch + min(self.step / max(self.steps, 1), 1.0)) / max(self.epochs, 1))

    @property
    def seconds_left(self) -> float | None:
        """Remaining seconds at the pace so far, when this was written; None where nothing is known yet."""
        gained = self.share - self.first
        if self.first_at is None or gained <= 0:
            return None
        return (self.updated - self.first_at) / gained * (1.0 - self.share)


class Heart:
    """Writes ``running.json`` while inside, and takes it away at the end.

    A beat that cannot be written (full disk) is skipped: the run itself says so at its next checkpoint.

    Args:
        folder: of the run; held by this process.
        epochs: of its recipe.
        device: as asked for; set ``device`` when it is chosen.
    """

    def __init__(self, folder: Path, epochs: int, device: str) -> None:
        self.path, self.device = folder / RUNNING, device
        self._epochs, self._started = epochs, time.time()
        self._first: tuple[float, float] | None = None
        self._ticked = self._due = 0.0
        self._pause = 0.0

    def __enter__(self) -> Heart:
        # features may have to be computed before the first tick: hours would be no sign of death
        self._write(0, self._epochs, 0, 1, None, "starting", pause=3600.0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def beat(self, epoch: int, epochs: int, step: int, steps: int, mr: float | None = None, doing: str = "") -> None:
        """The run moved on; the arguments are those of ``training.loop.Tick``."""
        now = time.monotonic()
        if self._ticked:
            self._pause = max(self._pause, now - self._ticked)
        self._ticked = now
        if now < self._due:
            return
        self._due = now + EVERY
        if self._first is None:
            self._first = ((epoch + step / max(steps, 1)) / max(epochs, 1), time.time())
        self._write(epoch, epochs, step, steps, mr, doing, pause=self._pause)

    def _write(
        self, epoch: int, epochs: int, step: int, steps: int, mr: float | None, doing: str, pause: float
    ) -> None:
        first, first_at = self._first or (0.0, None)
        where = (socket.gethostname(), os.getpid(), self.device, self._started, time.time())
        beat = Beat(*where, epoch, epochs, step, steps, mr, doing, __version__, round(pause, 3), first, first_at)
        tmp = temporary(self.path)
        try:  # without fsync: a beat lost with the power is no loss
            tmp.write_text(json.dumps(asdict(beat)), encoding="utf-8")
            os.replace(tmp, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                tmp.unlink(missing_ok=True)


def read_beat(folder: Path) -> tuple[Beat, float] | None:
    """The last beat of a run and its file's mtime; None where there is none, or it cannot be read."""
    try:
        with open(folder / RUNNING, encoding="utf-8") as file:
            data, moment = json.load(file), os.fstat(file.fileno()).st_mtime
        return Beat(**{f.name: data[f.name] for f in fields(Beat)}), moment
    except (OSError, ValueError, KeyError, TypeError):
        return None


def disk_clock(folder: Path) -> float:
    """Now, by the clock that stamps files in a folder; this machine's own where the folder cannot be written.

    Clocks of machines differ; the age of a file is only right by the clock that stamped it.
    """
    probe = temporary(folder / "clock")
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def is_alive(beat: Beat, age: float, held: bool | None) -> bool:
    """Whether the process that wrote a beat still works on its run.

    Args:
        beat: its last one.
        age: seconds since it was written, by the file system's clock.
        held: whether the run's lock is held; None where that cannot be told.
    """
    if beat.host == socket.gethostname():
        return process_lives(beat.pid) if held is None else held
    # locks do not reach over every network file system: a held one proves life, a free one proves nothing
    return held is True or age < max(LEAST_PATIENCE, PATIENCE * beat.pause)


def process_lives(pid: int) -> bool:
    """Whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
