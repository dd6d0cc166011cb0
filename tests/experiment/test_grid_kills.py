"""Grids whose workers and drivers are killed at random moments, and two drivers at once, end as undisturbed ones do."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from results_of import files, numbers

from rsbench.cli.app import main
from rsbench.experiment.drive import drive
from rsbench.experiment.launch.cards import LocalSettings
from rsbench.experiment.launch.local import launch
from rsbench.experiment.plan import Job, make_plan
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute
from rsbench.results.store import RunFolder

FORK = multiprocessing.get_context("fork")
PATIENCE = 1200.0


def quiet(*_: object) -> None:
    """No progress."""


def work(jobs: Sequence[Job], options: Options) -> None:
    """A driver: leaves with 0 when every run is done."""
    os.setsid()
    outcomes = list(drive(launch, jobs, options, LocalSettings(2), quiet))
    os._exit(0 if {o.status for o in outcomes} == {"done"} else 1)


def workers_of(pid: int) -> list[int]:
    """Spawned workers of a driver."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"PPid:\t{pid}\n" in (entry / "status").read_text():
                command = (entry / "cmdline").read_bytes()
                if b"spawn_main" in command and b"resource_tracker" not in command:
                    found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


class Storm:
    """Carries a grid out while killing its processes.

    Args:
        jobs: the grid.
        options: with its results folder.
        draw: random numbers.
        kills: of workers and drivers together; every fifth hits a driver.
    """

    def __init__(self, jobs: Sequence[Job], options: Options, draw: random.Random, kills: int) -> None:
        self.jobs, self.options, self.draw, self.kills = jobs, options, draw, kills
        self.hits = {"worker": 0, "driver": 0}
        self.drivers = 0

    def run(self) -> None:
        """Until everything is done; kills as long as there are any left and something runs."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            self.drivers += 1
            driver = FORK.Process(target=work, args=(self.jobs, self.options))
            driver.start()
            self._kill_along(driver)
            driver.join()
            if driver.exitcode == 0:
                return
        raise AssertionError("the grid does not come to an end")

    def _kill_along(self, driver: multiprocessing.process.BaseProcess) -> None:
        while sum(self.hits.values()) < self.kills:
            self._wait(driver)
            if not driver.is_alive():
                return
            alive = workers_of(driver.pid or 0)
            if sum(self.hits.values()) % 5 == 1:
                self.hits["driver"] += 1
                os.kill(driver.pid or 0, signal.SIGKILL)
                return
            if alive:
                self.hits["worker"] += 1
                os.kill(self.draw.choice(alive), signal.SIGKILL)

    def _wait(self, driver: multiprocessing.process.BaseProcess) -> None:
        """Some kills meet a worker that is still starting, most meet one soon after an epoch, whatever the machine."""
        if sum(self.hits.values()) > 1 and self.draw.random() < 0.3:
            driver.join(self.draw.uniform(0.0, 2.0))
            return
        before = self._progress()
        while driver.is_alive() and self._progress() == before:
            driver.join(0.02)
        driver.join(self.draw.uniform(0.0, 0.2))

    def _progress(self) -> dict[Path, int]:
        """When each checkpoint and each result was written."""
        found = {}
        for file in (*self.options.out.glob("*/checkpoint.safetensors"), *self.options.out.glob("*/result.json")):
            try:
                found[file] = file.stat().st_mtime_ns
            except FileNotFoundError:  # the run has just ended
                continue
        return found


def toy_jobs(root: Path, out: Path, methods: tuple[str, ...], seeds: int, epochs: str) -> list[Job]:
    request = Request(methods, ("toy",), (0.0, 0.4), tuple(range(seeds)), settings={"recipe.epochs": (epochs,)})
    return make_plan(resolve(request, root), out)


def stormed(root: Path, tmp_path: Path, jobs: Sequence[Job], kills: int) -> Storm:
    """Kill a grid, and compare every run with an undisturbed one."""
    alone = Options(root, tmp_path / "alone", "cpu")
    for job in jobs:
        execute(job.spec, alone)
    storm = Storm(jobs, Options(root, tmp_path / "storm", "cpu"), random.Random(5), kills)
    storm.run()
    for job in jobs:
        one, two = RunFolder(alone.out, job.spec.hash), RunFolder(tmp_path / "storm", job.spec.hash)
        assert numbers(one) == numbers(two)
        assert files(one) == files(two)
    return storm


def test_a_killed_worker_and_a_killed_driver_leave_no_trace(data_root: Path, tmp_path: Path) -> None:
    jobs = toy_jobs(data_root, tmp_path / "storm", ("rcl",), 2, "4")
    storm = stormed(data_root, tmp_path, jobs, kills=2)
    assert storm.hits == {"worker": 1, "driver": 1}
    assert storm.drivers >= 2


@pytest.mark.slow
def test_fifty_kills_over_a_grid_of_forty_runs(data_root: Path, tmp_path: Path) -> None:
    jobs = toy_jobs(data_root, tmp_path / "storm", ("infonce", "rcl", "srem", "vse"), 5, "4")
    assert len(jobs) == 40
    storm = stormed(data_root, tmp_path, jobs, kills=50)
    print(storm.hits, storm.drivers)
    assert sum(storm.hits.values()) == 50, "the grid must not be over before"


def typed_driver(words: list[str], note: Path) -> None:
    """``rsbench run`` in a process of its own, which notes down every run that it trains."""
    from rsbench.experiment.launch import work as module

    original = module.execute

    def noted(spec, options, tick):  # type: ignore[no-untyped-def]
        seen = []

        def first(t):  # type: ignore[no-untyped-def]
            if not seen:
                seen.append(t)
                with note.open("a") as file:
                    file.write(spec.hash + "\n")
            tick(t)

        return original(spec, options, first)

    module.execute = noted
    with note.with_suffix(".out").open("w") as told:
        sys.stdout = sys.stderr = told
        code = main(words)
    os._exit(code)


def test_two_drivers_do_everything_once(data_root: Path, tmp_path: Path) -> None:
    words = ["run", "-d", "toy", "-m", "infonce,rcl", "-n", "0.4", "-s", "3", "--set", "recipe.epochs=2", "-j", "1"]
    words += ["--root", str(data_root), "--out", str(tmp_path / "out")]
    drivers = [FORK.Process(target=typed_driver, args=(words, tmp_path / name)) for name in "ab"]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(PATIENCE)
    said = [(tmp_path / f"{name}.out").read_text() for name in "ab"]
    assert [d.exitcode for d in drivers] == [0, 0], said
    trained = [line for name in "ab" if (tmp_path / name).exists() for line in (tmp_path / name).read_text().split()]
    assert len(trained) == len(set(trained)) == 6, "nothing is done twice, nothing is lost"
    assert all("[6/6]" in text for text in said), "both tell how every run ended"


def test_a_run_that_another_process_keeps_in_silence_is_given_up_on(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rsbench.experiment.drive.PATIENCE", 0.3)
    monkeypatch.setattr("rsbench.experiment.drive.LOOK_SECONDS", 0.1)
    options = Options(data_root, tmp_path / "out", "cpu")
    jobs = toy_jobs(data_root, options.out, ("infonce",), 1, "1")
    told: list[int] = []
    with RunFolder(options.out, jobs[0].spec.hash).claimed():
        outcomes = list(drive(launch, jobs, options, LocalSettings(1), quiet, told.append))
    assert [o.status for o in outcomes] == ["done", "busy"]
    assert "another process" in outcomes[1].error
    assert told == [1]
    assert [o.status for o in drive(launch, jobs, options, LocalSettings(1), quiet)] == ["done", "done"]
