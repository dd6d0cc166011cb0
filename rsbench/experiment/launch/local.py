"""Warm worker processes on this machine, one thread each on CPU, each GPU shared by as many as asked for."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from rsbench.errors import RsbenchError
from rsbench.experiment.launch.base import Notify, Outcome
from rsbench.experiment.launch.cards import LocalSettings
from rsbench.experiment.launch.memory import available_mb
from rsbench.experiment.launch.pending import Pending, warmth
from rsbench.experiment.launch.process import READY, Worker
from rsbench.experiment.launch.work import run_job
from rsbench.experiment.plan import Job
from rsbench.experiment.run import Options
from rsbench.results.store import RunFolder

MAX_LOSSES = 3
"""How often a job is tried again whose worker dies before it finishes another epoch."""

FLOOR_MB = 512
"""Main memory that is left to the machine before one more job starts."""

LOOK_SECONDS = 1.0
"""How often memory is looked at."""


def launch(jobs: Sequence[Job], options: Options, settings: LocalSettings, notify: Notify) -> Iterator[Outcome]:
    """Run jobs, yielding each as it ends; a worker that dies is replaced and its job resumed.

    Args:
        jobs: what to run, longest first.
        options: data and results folders, device.
        settings: slots and memory; one slot without a memory limit runs in this process.
        notify: told about progress.

    Raises:
        OSError: a full disk, or a folder that cannot be written.
        RsbenchError: workers cannot be started.
    """
    devices = slot_devices(settings, options.device)[: len(jobs)]
    if len(devices) <= 1 and not settings.memory_mb:
        yield from _alone(jobs, options, notify)
        return
    pool = _Pool(jobs, [dataclasses.replace(options, device=d) for d in devices], settings, notify)
    try:
        yield from pool.outcomes()
    finally:
        pool.close()


def slot_devices(settings: LocalSettings, device: str) -> list[str]:
    """The device of each slot: ``per_gpu`` slots for every GPU that ``device`` allows, else one for each core."""
    gpus = _gpus(device)
    if not gpus:
        return [device] * (settings.slots or len(os.sched_getaffinity(0)))
    return [gpus[i % len(gpus)] for i in range(settings.slots or settings.per_gpu * len(gpus))]


def _gpus(device: str) -> list[str]:
    if device not in ("auto", "cuda"):
        return [device] if device.startswith("cuda") else []
    import torch

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())]


def _alone(jobs: Sequence[Job], options: Options, notify: Notify) -> Iterator[Outcome]:
    pending, warm = Pending(jobs), None
    while pending:
        job = pending.take(warm)
        warm = warmth(job.spec)
        yield run_job(job, options, notify)


class _Pool:
    """The driver's side: which worker does what.

    Args:
        jobs: longest first.
        options: those of each slot.
        settings: of the launcher.
        notify: told about progress.
    """

    def __init__(self, jobs: Sequence[Job], options: list[Options], settings: LocalSettings, notify: Notify) -> None:
        self.pending, self.limit, self.notify = Pending(jobs), settings.memory_mb, notify
        self.out = options[0].out
        self.workers = [Worker(o) for o in options]
        self.losses: Counter[str] = Counter()
        self.reached: dict[str, int] = {}
        self.stillborn = 0

    @property
    def busy(self) -> list[Worker]:
        """Workers with a job."""
        return [w for w in self.workers if w.job]

    def outcomes(self) -> Iterator[Outcome]:
        """Every job's outcome as it ends."""
        while self.pending or self.busy:
            self._fill()
            wait([thing for w in self.busy for thing in w.waitable], LOOK_SECONDS)
            for worker in self.busy:
                code = worker.lost()  # before its last words are read: none can come after
                yield from self._heard(worker)
                if worker.job and code is not None:
                    yield from self._lost(worker, code)
                elif worker.job and 0 < self.limit < worker.memory_mb:
                    yield self._too_large(worker)

    def close(self) -> None:
        """Stop every worker."""
        for worker in self.workers:
            worker.stop()

    def _fill(self) -> None:
        """Give idle workers their next jobs, as far as memory allows; one job always runs."""
        for worker in self.workers:
            if worker.job or not self.pending:
                continue
            if self.busy and not self._fits(worker):
                worker.stop()  # what it keeps warm is worth less than the memory
                if not self._fits(worker):
                    return
            if 0 < self.limit < worker.memory_mb:
                worker.stop()
            worker.give(self.pending.take(worker.warm))

    def _fits(self, worker: Worker) -> bool:
        """Whether one more job leaves the machine its floor once all running ones have grown to the limit."""
        free = available_mb()
        if free is None:
            return True
        promised = sum(max(0.0, self.limit - w.memory_mb) for w in (*self.busy, worker))
        return free - promised >= FLOOR_MB

    def _heard(self, worker: Worker) -> Iterator[Outcome]:
        for message in worker.messages():
            if isinstance(message, Exception):
                raise message
            if message == READY:
                worker.ready, self.stillborn = True, 0
            elif isinstance(message, Outcome):
                worker.job = None
                yield message
            else:
                self._moved(*message)

    def _moved(self, name: str, epoch: int, *rest: Any) -> None:
        if epoch > self.reached.get(name, 0):
            self.reached[name] = epoch
            del self.losses[name]
        self.notify(name, epoch, *rest)

    def _lost(self, worker: Worker, code: int) -> Iterator[Outcome]:
        job, ready = worker.job, worker.ready
        assert job is not None
        worker.stop()
        self.stillborn += not ready
        if self.stillborn > MAX_LOSSES * len(self.workers):
            raise RsbenchError(f"worker processes cannot be started ({_death(code)}); run again with --jobs 1")
        self.losses[job.spec.hash] += ready
        if self.losses[job.spec.hash] < MAX_LOSSES:
            self._note(job, f"worker lost: {_death(code)}; the run goes on in another")
            self.pending.put_back(dataclasses.replace(job, restart=job.restart and not ready))
            return
        reason = f"{MAX_LOSSES} workers in a row were lost before they finished an epoch: {_death(code)}"
        self._note(job, reason)
        yield Outcome(job, "failed", reason)

    def _too_large(self, worker: Worker) -> Outcome:
        job = worker.job
        assert job is not None
        reason = (
            f"stopped at {worker.memory_mb:,.0f} MB of memory, the limit is memory_mb={self.limit}; "
            "raise it, or run fewer at once with --jobs"
        )
        worker.stop()
        self._note(job, reason)
        return Outcome(job, "failed", reason)

    def _note(self, job: Job, line: str) -> None:
        folder = RunFolder(self.out, job.spec.hash)
        if folder.path.is_dir():
            folder.log(line)


def _death(code: int) -> str:
    """An exit code in words."""
    if code == -signal.SIGKILL:
        free = available_mb()
        left = "" if free is None else f", {free:,.0f} MB are free now"
        return f"killed by SIGKILL, as the system does when memory runs out{left}; fewer --jobs need less"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
