"""What a worker does, wherever it runs: one job from start to outcome, on one thread."""

from __future__ import annotations

import dataclasses
import os
import threading
import time

from rsbench.errors import BusyError, RsbenchError
from rsbench.experiment.launch.base import Notify, Outcome
from rsbench.experiment.plan import Job
from rsbench.experiment.run import Options, execute
from rsbench.training.loop import Tick


def run_job(job: Job, options: Options, notify: Notify) -> Outcome:
    """Carry one job out in this process; its failure is an outcome.

    Raises:
        OSError: a full disk or a folder that cannot be written: no property of the run, and the next fails alike.
    """
    name = job.spec.hash

    def tick(t: Tick) -> None:
        notify(name, t.epoch, t.epochs, t.step, t.steps, t.mr, t.doing)

    try:
        restarted = dataclasses.replace(options, restart=job.restart)
        return Outcome(job, "done", result=dict(execute(job.spec, restarted, tick)))
    except BusyError as error:
        return Outcome(job, "busy", str(error))
    except OSError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, RsbenchError) else f"{type(error).__name__}: {error}"
        return Outcome(job, "failed", reason)


def use_one_thread() -> None:
    """Equal results on a CPU need one thread per process; so do workers that share the cores."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def die_with(parent: int) -> None:
    """End this process when its parent is gone, from a thread of its own: a worker must not outlive its driver.

    Args:
        parent: process id of the driver on this machine.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
