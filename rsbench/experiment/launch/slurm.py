"""Runs as job arrays of SLURM, through submitit; outcomes are read from the run folders alone."""

from __future__ import annotations

import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rsbench.errors import BusyError, UsageError
from rsbench.experiment.launch.base import Notify, Outcome
from rsbench.experiment.launch.cards import SlurmSettings
from rsbench.experiment.launch.notes import note
from rsbench.experiment.launch.slurm_queue import Queue, queue_of, submit
from rsbench.experiment.plan import Job
from rsbench.experiment.run import Options
from rsbench.results.heartbeat import read_beat
from rsbench.results.store import RunFolder, read_json, write_json

FOLDER = ".slurm"
"""Inside the results folder: one folder per submission, with ``tasks.json`` and what submitit writes."""

TASKS = "tasks.json"

ENTERING = 60.0
"""Seconds for which a submission that is not in the queue is left to the driver that wrote it down."""

LEAVING = 30.0
"""Seconds for the last tasks to leave the queue after their runs have ended."""

LONGEST = 1000
"""Tasks of one array: SLURM refuses more than MaxArraySize, 1001 where nobody changed it."""


def launch(jobs: Sequence[Job], options: Options, settings: SlurmSettings, notify: Notify) -> Iterator[Outcome]:
    """Run jobs as array tasks (see ``launch.base``); tasks that an earlier driver submitted are asked for first.

    Raises:
        UsageError: no SLURM here, or one that refuses the settings.
        OSError: the results folder cannot be written.
    """
    if options.device.startswith("cuda:"):
        raise UsageError(f"--device {options.device}: SLURM chooses the GPU; type --launcher slurm --launch gpus=1")
    grid = _Grid(list(jobs), options, settings, notify, queue_of(settings.executor))
    try:
        yield from grid.outcomes()
    finally:
        if grid.submissions:
            note(f"tasks stay in the queue; the same command collects them ({len(grid.submissions)} submissions)")


@dataclass(frozen=True)
class Submission:
    """One array in the queue, as kept in ``tasks.json``.

    Attributes:
        folder: of its files; its name is the job name in the queue.
        tasks: hashes of the runs of each array task.
        queued: whether the queue has taken it.
        pids: processes of the tasks, where they run on this machine.
    """

    folder: Path
    tasks: tuple[tuple[str, ...], ...]
    queued: bool = False
    pids: tuple[int, ...] = ()

    @property
    def file(self) -> Path:
        """Where it is kept."""
        return self.folder / TASKS

    @property
    def entering(self) -> bool:
        """Whether another driver may be about to put it into the queue."""
        return not self.queued and time.time() - self.file.stat().st_mtime < ENTERING

    def keep(self) -> None:
        """Write it down."""
        write_json(self.file, {"tasks": self.tasks, "queued": self.queued, "pids": self.pids})

    @classmethod
    def read(cls, folder: Path) -> Submission:
        """Read what was kept.

        Raises:
            ResultError: damaged.
        """
        kept = read_json(folder / TASKS)
        return cls(folder, tuple(tuple(t) for t in kept["tasks"]), kept["queued"], tuple(kept["pids"]))

    def why(self, task: int) -> str:
        """Last line of a task's error log."""
        logs = sorted(self.folder.glob(f"*_{task}_log.err")) or sorted(self.folder.glob("*_log.err"))
        lines = logs[0].read_text(errors="replace").strip().splitlines() if logs else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "no log was written")


@dataclass
class _Grid:
    """What is open, and where it is in the queue."""

    jobs: list[Job]
    options: Options
    settings: SlurmSettings
    notify: Notify
    queue: Queue
    submissions: list[Submission] = field(default_factory=list)
    seen: set[tuple[str, int]] = field(default_factory=set)
    losses: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.open = {job.spec.hash: job for job in self.jobs}
        self.home = (self.options.out / FOLDER).absolute()

    def outcomes(self) -> Iterator[Outcome]:
        """Each job's outcome, as its run folder shows it."""
        self.submissions = [Submission.read(p.parent) for p in sorted(self.home.glob(f"*/{TASKS}"))]
        while self.open:
            active = self.queue.active([s.folder.name for s in self.submissions], self.submissions)
            yield from self._ended()  # after the look at the queue: a task writes its result before it leaves
            if active is not None:
                yield from self._left(active)
                yield from self._submit(active)
            if self.open:
                time.sleep(self.queue.pause)
        self._tidy()

    def _ended(self) -> Iterator[Outcome]:
        for name, job in list(self.open.items()):
            folder = RunFolder(self.options.out, name)
            state = folder.state()
            if state in ("done", "failed") and self._was_submitted(name):
                result = dict(folder.read_result())
                del self.open[name]
                done = state == "done"
                yield Outcome(job, state, "" if done else str(result.get("error", "")), result if done else None)

    def _was_submitted(self, name: str) -> bool:
        """Whether an end is news: what lay there before is cleared when a run is submitted."""
        return any(name in task for s in self.submissions for task in s.tasks)

    def _left(self, active: Mapping[tuple[str, int], str]) -> Iterator[Outcome]:
        """Tasks that are no longer in the queue, their runs not ended: killed without a word."""
        for submission in [s for s in self.submissions if not s.entering]:
            over = True
            for index, names in enumerate(submission.tasks):
                task = (submission.folder.name, index)
                if task in active:
                    over = False
                    self._tell(names, active[task])
                elif task not in self.seen:
                    self.seen.add(task)
                    yield from self._gone(submission, index, names)
            if over:
                self.submissions.remove(submission)
                self._forget(submission)

    def _gone(self, submission: Submission, index: int, names: Sequence[str]) -> Iterator[Outcome]:
        for name in (n for n in names if n in self.open):
            if RunFolder(self.options.out, name).held():
                yield self._busy(name)
                continue
            self.losses[name] += 1
            if self.losses[name] > self.settings.retries:
                job = self.open.pop(name)
                yield Outcome(job, "failed", f"its task ended without a result: {submission.why(index)}")

    def _tell(self, names: Sequence[str], state: str) -> None:
        """Pass on what the runs of a task write about themselves, else where the task is in the queue."""
        for name in (n for n in names if n in self.open):
            found = read_beat(RunFolder(self.options.out, name).path)
            if found is None:
                self.notify(name, 0, 1, 0, 1, None, f"SLURM: {state.lower()}")
            else:
                beat = found[0]
                self.notify(name, beat.epoch, beat.epochs, beat.step, beat.steps, beat.mr, beat.doing)

    def _busy(self, name: str) -> Outcome:
        return Outcome(self.open.pop(name), "busy", f"run {name} is being worked on by another process")

    def _submit(self, active: Mapping[tuple[str, int], str]) -> Iterator[Outcome]:
        """Put into the queue what is open and not there."""
        there = {
            name
            for s in self.submissions
            for i, names in enumerate(s.tasks)
            if s.entering or (s.folder.name, i) in active
            for name in names
        }
        todo = [job for name, job in self.open.items() if name not in there]
        if not todo:
            return
        size = max(self.settings.runs_per_job, -(-len(todo) // LONGEST))
        tasks = [todo[i : i + size] for i in range(0, len(todo), size)]
        room = len(tasks) if self.queue.caps else max(0, self.settings.array - len(active))
        for job in (job for task in tasks[:room] for job in task):
            if not self._cleared(job):
                yield self._busy(job.spec.hash)
        free = [[job for job in task if job.spec.hash in self.open] for task in tasks[:room]]
        if any(free):
            self._enter([task for task in free if task])

    def _enter(self, tasks: Sequence[Sequence[Job]]) -> None:
        folder = self.home / f"rsbench-{uuid.uuid4().hex[:12]}"
        folder.mkdir(parents=True)
        submission = Submission(folder, tuple(tuple(j.spec.hash for j in task) for task in tasks))
        submission.keep()  # before the queue knows: a driver killed in between finds its tasks by their name
        specs = [[job.spec.as_dict() for job in task] for task in tasks]
        try:
            pids = submit(folder, specs, self.options, self.settings)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        submission = replace(submission, queued=True, pids=tuple(pids))
        submission.keep()
        self.submissions.append(submission)

    def _cleared(self, job: Job) -> bool:
        """Take away what would pass for the outcome of a task; not where another process holds the run."""
        folder = RunFolder(self.options.out, job.spec.hash)
        try:
            with folder.claimed():
                if job.restart and not self.losses[job.spec.hash]:
                    folder.clear()
                elif folder.state() == "failed":
                    folder.result.unlink()
        except BusyError:
            return False
        return True

    def _forget(self, submission: Submission) -> None:
        """Keep logs only where something went wrong."""
        if all(RunFolder(self.options.out, n).state() == "done" for task in submission.tasks for n in task):
            shutil.rmtree(submission.folder, ignore_errors=True)
        else:
            submission.file.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Forget what is over; a task that still has runs of another grid to do keeps its folder."""
        deadline = time.monotonic() + LEAVING
        while self.submissions and time.monotonic() < deadline:
            active = self.queue.active([s.folder.name for s in self.submissions], self.submissions)
            if active is not None:
                list(self._left(active))
            if self.submissions:
                time.sleep(self.queue.pause)
        if self.home.is_dir() and not any(self.home.iterdir()):
            self.home.rmdir()
