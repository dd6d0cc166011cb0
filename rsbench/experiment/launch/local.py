"""Warm worker processes on this machine, one thread each on CPU."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from rsbench.errors import BusyError, RsbenchError
from rsbench.experiment.launch.base import Notify, Outcome
from rsbench.experiment.plan import Job
from rsbench.experiment.run import Options, execute
from rsbench.training.loop import Tick

MAX_LOSSES = 3
"""How often a pool whose worker was killed is built anew without a finished job in between."""

_ticks: Any = None


def run_job(job: Job, options: Options, notify: Notify) -> Outcome:
    """Carry one job out in this process; its failure is an outcome, a full disk is not."""
    name = job.spec.hash

    def tick(t: Tick) -> None:
        notify(name, t.epoch, t.epochs, t.step, t.steps, t.mr, t.doing)

    restarted = Options(**{**vars(options), "restart": job.restart})
    try:
        return Outcome(job, "done", result=dict(execute(job.spec, restarted, tick)))
    except BusyError as error:
        return Outcome(job, "busy", str(error))
    except OSError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, RsbenchError) else f"{type(error).__name__}: {error}"
        return Outcome(job, "failed", reason)


def launch(jobs: Sequence[Job], options: Options, slots: int, notify: Notify) -> Iterator[Outcome]:
    """Run jobs, yielding each as it ends; a worker that dies is replaced and its job resumed.

    Args:
        jobs: what to run.
        options: data and results folders, device.
        slots: worker processes; 1 runs in this process.
        notify: told about progress.

    Raises:
        RsbenchError: workers keep dying.
    """
    if slots <= 1:
        yield from (run_job(job, options, notify) for job in jobs)
        return
    todo, losses = list(jobs), 0
    while todo:
        finished: list[Job] = []
        try:
            for outcome in _pool(todo, options, slots, notify):
                finished.append(outcome.job)
                losses = 0
                yield outcome
        except BrokenProcessPool:
            losses += 1
            if losses >= MAX_LOSSES:
                raise RsbenchError(
                    f"worker processes died {losses} times in a row (out of memory?); run again with --jobs 1"
                ) from None
        todo = [job for job in todo if job not in finished]


def _pool(jobs: Sequence[Job], options: Options, slots: int, notify: Notify) -> Iterator[Outcome]:
    context = multiprocessing.get_context("spawn")
    ticks = context.Queue()
    reader = threading.Thread(target=_forward, args=(ticks, notify), daemon=True)
    reader.start()
    executor = ProcessPoolExecutor(slots, context, _start_worker, (ticks, os.getpid()))
    try:
        futures: set[Future[Outcome]] = {executor.submit(_work, job, options) for job in jobs}
        while futures:
            done, futures = wait(futures, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        workers = list((executor._processes or {}).values())
        executor.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()  # a run in progress resumes from its last checkpoint
        ticks.put(None)
        reader.join(timeout=2)


def _forward(ticks: Any, notify: Notify) -> None:
    while (item := ticks.get()) is not None:
        notify(*item)


def _start_worker(ticks: Any, parent: int) -> None:
    global _ticks
    _ticks = ticks
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    """A worker must not outlive its driver."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _work(job: Job, options: Options) -> Outcome:
    def notify(*item: Any) -> None:
        with contextlib.suppress(Exception):  # progress is not worth a failed run
            _ticks.put_nowait(item)

    return run_job(job, options, notify)
