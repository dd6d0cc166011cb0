"""A warm worker process of this machine: what runs in it, and the driver's hold on it.

Every worker has a pipe of its own: a process that is killed while it writes damages nobody else's messages.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from rsbench.errors import RsbenchError
from rsbench.experiment.launch.memory import resident_mb
from rsbench.experiment.launch.pending import warmth
from rsbench.experiment.plan import Job
from rsbench.experiment.run import Options

TICK_SECONDS = 0.2
"""Least time between two reports of progress within an epoch."""

READY = "ready"


class Worker:
    """One slot: a process that lives from its first job to the end of the grid, unless it is lost.

    Args:
        options: of every run; the device is the slot's own.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.job: Job | None = None
        self.warm: str | None = None
        self.ready = False
        self._process: Any = None
        self._pipe: Connection | None = None

    @property
    def waitable(self) -> list[Any]:
        """What ``multiprocessing.connection.wait`` can wait for while a job runs."""
        return [self._pipe, self._process.sentinel] if self.job else []

    @property
    def memory_mb(self) -> float:
        """Main memory of the process, 0 before it is started."""
        return resident_mb(self._process.pid) if self._process else 0.0

    def give(self, job: Job) -> None:
        """Start a job, and the process where there is none."""
        if self._process is None or not self._process.is_alive():
            self._start()
        self.job, self.warm = job, warmth(job.spec)
        assert self._pipe is not None
        with contextlib.suppress(OSError):  # it died idle: noticed as a lost job
            self._pipe.send(job)

    def _start(self) -> None:
        self.stop()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, os.getpid(), self.options))
        self._process.start()
        theirs.close()  # so that its death ends the pipe

    def messages(self) -> Iterator[Any]:
        """What the process has said since; ends where it is silent or gone."""
        with contextlib.suppress(EOFError, OSError):
            while self._pipe is not None and self._pipe.poll():
                yield self._pipe.recv()

    def lost(self) -> int | None:
        """Exit code of a process that is gone, None for a living one."""
        if self._process is None or self._process.is_alive():
            return None
        self._process.join()
        return int(self._process.exitcode)

    def stop(self) -> None:
        """End the process, whatever it does; a run in progress resumes from its last checkpoint."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = self.job = self.warm = None
        self.ready = False


def serve(pipe: Connection, driver: int, options: Options) -> None:
    """The loop of a worker process: a job comes in; progress and one outcome, or one ``OSError``, go out.

    Args:
        pipe: to the driver.
        driver: its process id; the worker ends with it.
        options: of every run.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    from rsbench.experiment.launch.work import die_with, run_job, use_one_thread

    die_with(driver)
    use_one_thread()
    with contextlib.suppress(EOFError, ConnectionError):  # the driver is gone
        pipe.send(READY)
        while True:
            job = pipe.recv()
            try:
                pipe.send(run_job(job, options, _Ticks(pipe)))
            except OSError as error:
                pipe.send(_plain(error))


class _Ticks:
    """Progress of one run, thinned out; every epoch is told."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._epoch, self._due = pipe, -1, 0.0

    def __call__(self, name: str, epoch: int, *rest: Any) -> None:
        now = time.monotonic()
        if epoch == self._epoch and now < self._due:
            return
        self._epoch, self._due = epoch, now + TICK_SECONDS
        self._pipe.send((name, epoch, *rest))


def _plain(error: OSError) -> Exception:
    """The same error as one that surely survives the way to the driver."""
    if isinstance(error, RsbenchError):
        return RsbenchError(str(error))
    return OSError(error.errno, error.strerror or str(error), error.filename)
