"""The queue: what is put there, and what is still in it. ``squeue`` alone is asked: many clusters keep no accounts."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rsbench
from rsbench.errors import ResultError, UsageError
from rsbench.experiment.launch.cards import SlurmSettings
from rsbench.experiment.plan import Job
from rsbench.experiment.run import Options
from rsbench.experiment.spec import RunSpec

if TYPE_CHECKING:
    from rsbench.experiment.launch.slurm import Submission

Active = dict[tuple[str, int], str]
"""(name of the submission, array task) -> state."""

BUSY_PAUSE = 20.0
"""Seconds after which a task tries once more the runs that another process held: a lost node lets go late."""


@dataclass(frozen=True)
class Queue:
    """Where tasks wait and run.

    Attributes:
        active: names and submissions -> the tasks that are waiting or running; None where it cannot be known now.
        pause: seconds between two looks.
        caps: whether the queue itself keeps the number of tasks at the same time.
    """

    active: Callable[[Sequence[str], Sequence[Submission]], Active | None]
    pause: float
    caps: bool


def queue_of(executor: str) -> Queue:
    """The queue of an executor.

    Raises:
        UsageError: no SLURM on this machine.
    """
    if executor == "local":
        return Queue(_active_here, 0.3, caps=False)
    for command in ("sbatch", "squeue", "srun"):
        if shutil.which(command) is None:
            raise UsageError(
                f"no SLURM here: `{command}` is not found; start rsbench on a login node, or type "
                "--launcher local (or --launch executor=local to try this road without a cluster)"
            )
    return Queue(_active_in_slurm, 3.0, caps=True)


def _active_in_slurm(names: Sequence[str], submissions: Sequence[Submission]) -> Active | None:
    """Ask ``squeue``; a controller that does not answer says nothing about the tasks."""
    if not names:
        return {}
    asked = ["squeue", "--noheader", "--array", "--name", ",".join(names), "--format", "%j|%K|%T"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    if found.returncode:
        return None
    lines = [line.strip().split("|") for line in found.stdout.splitlines() if line.strip()]
    return {(name, int(task) if task.isdigit() else 0): state for name, task, state in lines}


def _active_here(names: Sequence[str], submissions: Sequence[Submission]) -> Active:
    """Processes of submitit's local executor that are alive."""
    return {(s.folder.name, i): "RUNNING" for s in submissions for i, pid in enumerate(s.pids) if _alive(pid, s.folder)}


def _alive(pid: int, folder: Path) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a child that ended is a zombie until it is asked for
    try:
        return str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class Batch:
    """The runs of one array task, one after another; what submitit pickles, all plain values.

    Args:
        specs: ``RunSpec.as_dict`` of each run.
        options: fields of ``Options``, paths as text.
        version: of rsbench on the front node.
    """

    def __init__(self, specs: Sequence[Mapping[str, Any]], options: Mapping[str, Any], version: str) -> None:
        self.specs, self.options, self.version = list(specs), dict(options), version

    def __call__(self) -> None:
        """Carry them out; run folders are the only answer.

        Raises:
            ResultError: the node has another version of rsbench.
            OSError: a full disk.
        """
        if rsbench.__version__ != self.version:
            raise ResultError(f"this node has rsbench {rsbench.__version__}, the front node {self.version}")
        held = [spec for spec in self.specs if self._run(spec) == "busy"]
        if held:
            time.sleep(BUSY_PAUSE)
            for spec in held:
                self._run(spec)

    def _run(self, spec: Mapping[str, Any]) -> str:
        from rsbench.experiment.launch.work import run_job, use_one_thread

        use_one_thread()
        paths = {k: Path(self.options[k]) for k in ("root", "out")}
        job = Job(RunSpec.from_dict(spec), "new", True)
        return run_job(job, Options(**{**self.options, **paths}), lambda *_: None).status

    def checkpoint(self) -> Any:
        """What submitit queues again before a preemption or the time limit: the same, each run has its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(
    folder: Path, specs: Sequence[Sequence[Mapping[str, Any]]], options: Options, settings: SlurmSettings
) -> list[int]:
    """Put tasks into the queue as one array.

    Args:
        folder: of the submission; its name becomes the job name.
        specs: of each task.
        options: of every run.
        settings: what is asked of SLURM.

    Returns:
        Process ids of the tasks, where they run on this machine.

    Raises:
        UsageError: SLURM refuses the settings.
    """
    import submitit

    logging.getLogger("submitit").setLevel(logging.CRITICAL)
    plain = {**vars(options), "root": str(options.root), "out": str(Path(options.out).absolute())}
    batches = [Batch(task, plain, rsbench.__version__) for task in specs]
    if settings.executor == "local":
        executor: Any = submitit.LocalExecutor(folder, max_num_timeout=settings.requeues)
        executor.update_parameters(timeout_min=settings.minutes, gpus_per_node=settings.gpus)
        return [int(job.job_id) for job in executor.submit_array(batches)]
    executor = submitit.SlurmExecutor(folder, max_num_timeout=settings.requeues)
    executor.update_parameters(**_asked(folder.name, settings))
    try:
        executor.submit_array(batches)
    except submitit.core.utils.FailedJobError as error:
        raise UsageError(f"SLURM refuses the jobs: {_said(error)}; see its settings: rsbench describe slurm") from None
    return []


def _asked(name: str, settings: SlurmSettings) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "job_name": name,
        "time": settings.minutes,
        "array_parallelism": settings.array,
        "cpus_per_task": settings.cpus,
        "additional_parameters": {"requeue": True},
    }
    if settings.memory_mb:
        asked["additional_parameters"]["mem"] = f"{settings.memory_mb}M"
    optional = {"partition": settings.partition, "account": settings.account, "gpus_per_node": settings.gpus}
    return asked | {k: v for k, v in optional.items() if v}


def _said(error: Exception) -> str:
    """What ``sbatch`` said, without the trace around it."""
    lines = [line.strip() for line in str(error).splitlines() if "error:" in line]
    return (lines or [str(error).strip().splitlines()[-1]])[0]
