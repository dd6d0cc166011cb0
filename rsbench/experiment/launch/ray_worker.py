"""What lives in a Ray worker process: warm data, and one run at a time. Ray itself is not imported."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rsbench
from rsbench.errors import ResultError
from rsbench.experiment.launch.freight import pack_run, stow
from rsbench.experiment.launch.work import run_job, use_one_thread
from rsbench.experiment.plan import Job
from rsbench.experiment.run import Options
from rsbench.experiment.spec import RunSpec
from rsbench.results.store import RunFolder


@dataclass(frozen=True)
class Site:
    """The driver's folders and options in plain values, and how a worker finds out whether it shares them.

    Attributes:
        root: data folder.
        out: results folder.
        marker: name of a file with a random name that the driver put into both.
        ship: ``auto``, ``yes`` or ``no``.
        cwd: working folder of the driver; methods may be given as files below it.
    """

    root: str
    out: str
    marker: str
    ship: str
    cwd: str
    device: str
    keep_weights: bool

    def ships(self, folder: str) -> bool:
        """Whether what is in a folder of the driver must travel to here."""
        return self.ship == "yes" or (self.ship == "auto" and not Path(folder, self.marker).exists())


class Worker:
    """One process on a node; it is a Ray actor with a second thread for ``tick``.

    Args:
        site: the driver's folders.
        node: id of the node, part of the name of the scratch folder that its workers share.
    """

    def __init__(self, site: Mapping[str, Any], node: str) -> None:
        self.site = Site(**site)
        use_one_thread()
        with contextlib.suppress(OSError):
            os.chdir(self.site.cwd)
        self.scratch = Path(tempfile.gettempdir()) / f"rsbench-{os.getuid()}" / node / rsbench.__version__
        self.ships_data, self.ships_runs = self.site.ships(self.site.root), self.site.ships(self.site.out)
        out = self.scratch / "results" if self.ships_runs else Path(self.site.out)
        self.options = Options(Path(self.site.root), out, self.site.device, self.site.keep_weights)
        self.now: tuple[Any, ...] | None = None

    def greet(self) -> dict[str, Any]:
        """Who is here, and what must be sent."""
        return {
            "rsbench": rsbench.__version__,
            "pid": os.getpid(),
            "ships_data": self.ships_data,
            "ships_runs": self.ships_runs,
        }

    def run(self, job: Mapping[str, Any], cargo: tuple[str, Sequence[Any]] | None) -> dict[str, Any]:
        """Carry a job out.

        Args:
            job: ``spec``, its ``hash`` and ``restart``.
            cargo: digest and references of the chunks of the data, where they must be fetched.

        Returns:
            ``status`` and ``error``; ``chunks`` where the run folder must be fetched.

        Raises:
            OSError: a full disk.
            ArchiveError: the data came damaged.
        """
        spec = RunSpec.from_dict(job["spec"])
        if spec.hash != job["hash"]:
            raise ResultError(f"run {job['hash']} reads as {spec.hash} here; use one version of rsbench everywhere")
        self._fetch(cargo)
        self.now = None
        outcome = run_job(Job(spec, "new", True, job["restart"]), self.options, self._note)
        self.now = None
        folder = RunFolder(self.options.out, spec.hash)
        back = self.ships_runs and outcome.status in ("done", "failed") and folder.result.exists()
        return {"status": outcome.status, "error": outcome.error, "chunks": pack_run(folder) if back else []}

    def _note(self, *tick: Any) -> None:
        self.now = tick

    def _fetch(self, cargo: tuple[str, Sequence[Any]] | None) -> None:
        if cargo is None:
            return
        digest, references = cargo
        place = stow(_fetched(references), self.scratch / f"data-{digest}")
        self.options = replace(self.options, root=place)

    def tick(self) -> tuple[Any, ...] | None:
        """How far the run in progress is, as ``Notify`` takes it."""
        return self.now

    def drop(self, name: str) -> None:
        """Forget a run that has arrived at the driver."""
        if self.ships_runs:
            shutil.rmtree(RunFolder(self.options.out, name).path, ignore_errors=True)


def _fetched(references: Sequence[Any]) -> Any:
    import ray

    get: Callable[[Any], bytes] = ray.get
    return (get(reference) for reference in references)
