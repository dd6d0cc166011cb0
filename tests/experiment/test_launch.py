"""Worker processes give the same bytes as one process, and a killed worker costs nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from results_of import files, numbers

from rsbench.experiment.launch.local import launch
from rsbench.experiment.plan import Job, make_plan
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options
from rsbench.results.store import RunFolder


@pytest.fixture
def jobs(data_root: Path, tmp_path: Path) -> list[Job]:
    request = Request(
        methods=("infonce", "rcl"), datasets=("toy",), rates=(0.4,), seeds=(0, 1), settings={"recipe.epochs": ("2",)}
    )
    return make_plan(resolve(request, data_root), tmp_path / "out")


def quiet(*_: object) -> None:
    """No progress."""


def worker_processes() -> list[int]:
    """Children of this process that run a spawned worker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and f"PPid:\t{os.getpid()}\n" in (entry / "status").read_text():
            command = (entry / "cmdline").read_bytes()
            if b"spawn_main" in command and b"resource_tracker" not in command:
                found.append(int(entry.name))
    return found


def test_two_workers_with_a_kill_equal_one_process(jobs: list[Job], data_root: Path, tmp_path: Path) -> None:
    alone, pooled = Options(data_root, tmp_path / "alone", "cpu"), Options(data_root, tmp_path / "pooled", "cpu")
    assert [o.status for o in launch(jobs, alone, 1, quiet)] == ["done"] * 4

    killed: list[int] = []

    def kill_one(name: str, epoch: int, *rest: object) -> None:
        if not killed and epoch == 1:
            killed.append(worker_processes()[0])
            os.kill(killed[0], signal.SIGKILL)

    outcomes = list(launch(jobs, pooled, 2, kill_one))
    assert killed, "the kill must have happened"
    assert sorted(o.status for o in outcomes) == ["done"] * 4
    for job in jobs:
        one, two = RunFolder(alone.out, job.spec.hash), RunFolder(pooled.out, job.spec.hash)
        assert numbers(one) == numbers(two)
        assert files(one) == files(two)
    assert not worker_processes(), "no worker outlives the grid"


def test_a_run_held_by_another_process_is_told_and_the_rest_goes_on(
    jobs: list[Job], data_root: Path, tmp_path: Path
) -> None:
    options = Options(data_root, tmp_path / "out", "cpu")
    with RunFolder(options.out, jobs[0].spec.hash).claimed():
        outcomes = list(launch(jobs[:2], options, 1, quiet))
    assert [o.status for o in outcomes] == ["busy", "done"]
    assert "another process" in outcomes[0].error


def test_a_failed_run_is_recorded_and_never_counts(jobs: list[Job], data_root: Path, tmp_path: Path) -> None:
    options = Options(data_root, tmp_path / "out", "tpu")
    outcome = next(iter(launch(jobs[:1], options, 1, quiet)))
    assert outcome.status == "failed"
    folder = RunFolder(options.out, jobs[0].spec.hash)
    assert folder.state() == "failed"
    assert "tpu" in folder.read_result()["error"]
    assert next(iter(launch(jobs[:1], Options(data_root, options.out, "cpu"), 1, quiet))).status == "done"
    assert folder.state() == "done"
