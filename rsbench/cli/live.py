"""What is seen while a grid runs: one bar for all, one for each running job with its epoch and mR."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rsbench.cli.console import console, errors

if TYPE_CHECKING:
    from rich.progress import TaskID

    from rsbench.experiment.launch.base import Outcome
    from rsbench.experiment.plan import Job


def label(job: Job) -> str:
    """One job in a few words."""
    spec = job.spec
    variant = "" if spec.variant == "full" else f":{spec.variant}"
    return f"{spec.method}{variant} {spec.dataset} noise {spec.noise.rate:g} seed {spec.seed}"


class GridView:
    """Draws progress on a terminal, prints a line a finished run elsewhere.

    Args:
        jobs: what will run.
    """

    def __init__(self, jobs: list[Job]) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.jobs = {j.spec.hash: j for j in jobs}
        self.finished = self.failed = 0
        self.bars: dict[str, TaskID] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=errors, transient=True)
        self.total = self.progress.add_task("[bold]runs", total=len(jobs))

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while inside; draws nothing where stderr is no terminal."""
        if not errors.is_terminal:
            yield
            return
        with self.progress:
            yield

    def notify(
        self, name: str, epoch: int, epochs: int, step: int, steps: int, mr: float | None, doing: str = ""
    ) -> None:
        """A job moved on (see ``launch.base.Notify``)."""
        if name not in self.jobs:
            return
        if name not in self.bars:
            self.bars[name] = self.progress.add_task(label(self.jobs[name]), total=epochs * steps)
            self._count()
        shown = "" if mr is None else f"  val mR {mr:.1f}"
        text = f"{label(self.jobs[name])}  epoch {min(epoch + 1, epochs)}/{epochs}{shown}  {doing}"
        self.progress.update(self.bars[name], completed=epoch * steps + step, description=text)

    def close(self, outcome: Outcome) -> None:
        """A job ended: take its bar away and say how."""
        self.finished += 1
        self.failed += outcome.status == "failed"
        bar = self.bars.pop(outcome.job.spec.hash, None)
        if bar is not None:
            self.progress.remove_task(bar)
        self.progress.advance(self.total)
        self._count()
        head = f"[{self.finished}/{len(self.jobs)}] {label(outcome.job)}:"
        target = self.progress.console if errors.is_terminal else console
        target.print(f"{head} {_ending(outcome)}", markup=False, highlight=False, soft_wrap=True)

    def _count(self) -> None:
        words = [f"{len(self.bars)} running"] + ([f"{self.failed} failed"] if self.failed else [])
        self.progress.update(self.total, description=f"[bold]runs[/] ({', '.join(words)})")


def _ending(outcome: Outcome) -> str:
    if outcome.result is None:
        return f"{outcome.status}: {outcome.error}"
    part = "test" if "test" in outcome.result else "val"
    best = outcome.result[part]["best"]
    seconds = outcome.result["time"]["total"]
    return f"{part} mR {best['mr']:.2f} (epoch {outcome.result['best_epoch'] + 1}), {seconds:.0f} s"
