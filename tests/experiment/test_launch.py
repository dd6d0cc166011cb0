"""What a launcher makes of its jobs; killed processes are in ``test_grid_kills``."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rsbench.errors import DependencyError, RsbenchError
from rsbench.experiment.launch import local
from rsbench.experiment.launch.base import Outcome
from rsbench.experiment.launch.cards import LAUNCHERS, LauncherCard, LocalSettings, settings_of, settings_told
from rsbench.experiment.launch.local import launch, slot_devices
from rsbench.experiment.launch.pending import Pending, warmth
from rsbench.experiment.launch.process import READY
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


def test_a_run_held_by_another_process_is_told_and_the_rest_goes_on(
    jobs: list[Job], data_root: Path, tmp_path: Path
) -> None:
    options = Options(data_root, tmp_path / "out", "cpu")
    with RunFolder(options.out, jobs[0].spec.hash).claimed():
        outcomes = list(launch(jobs[:2], options, LocalSettings(1), quiet))
    assert [o.status for o in outcomes] == ["busy", "done"]
    assert "another process" in outcomes[0].error


def test_a_failed_run_is_recorded_and_never_counts(jobs: list[Job], data_root: Path, tmp_path: Path) -> None:
    options = Options(data_root, tmp_path / "out", "tpu")
    outcome = next(iter(launch(jobs[:1], options, LocalSettings(1), quiet)))
    assert outcome.status == "failed"
    folder = RunFolder(options.out, jobs[0].spec.hash)
    assert folder.state() == "failed"
    assert "tpu" in folder.read_result()["error"]
    assert (
        next(iter(launch(jobs[:1], Options(data_root, options.out, "cpu"), LocalSettings(1), quiet))).status == "done"
    )
    assert folder.state() == "done"


class Scripted:
    """Stands for a worker process: each look at it is one moment of its job's script.

    A script is a list of moments: a message, or ``("dies", code)``, or ``("holds", MB)``.
    """

    scripts: dict[str, list[Any]]
    made: list[Scripted]
    log: list[tuple[int, str]]

    def __init__(self, options: Options) -> None:
        self.options, self.job, self.warm, self.ready, self.memory_mb = options, None, None, False, 0.0
        self.waitable: list[Any] = []
        self.stops = 0
        self.code: int | None = None
        self.made.append(self)

    def give(self, job: Job) -> None:
        self.job, self.warm, self.code = job, warmth(job.spec), None
        self.log.append((self.made.index(self), job.spec.hash))

    def lost(self) -> int | None:
        assert self.job is not None
        script = self.scripts[self.job.spec.hash]
        if script and isinstance(script[0], tuple) and script[0][0] == "dies":
            self.code = int(script.pop(0)[1])
        return self.code

    def messages(self) -> Iterator[Any]:
        assert self.job is not None
        job, script = self.job, self.scripts[self.job.spec.hash]
        if self.code is not None:
            return
        if script and isinstance(script[0], tuple) and script[0][0] == "holds":
            self.memory_mb = script.pop(0)[1]
            return
        yield script.pop(0) if script else Outcome(job, "done", result={})

    def stop(self) -> None:
        self.stops += 1
        self.job = self.warm = None
        self.ready, self.memory_mb = False, 0.0


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, jobs: list[Job]) -> type[Scripted]:
    Scripted.scripts, Scripted.made, Scripted.log = {j.spec.hash: [] for j in jobs}, [], []
    monkeypatch.setattr(local, "Worker", Scripted)
    monkeypatch.setattr(local, "wait", lambda *_: None)
    monkeypatch.setattr(local, "available_mb", lambda: 10_000.0)
    return Scripted


def carried_out(jobs: list[Job], tmp_path: Path, **settings: int) -> dict[str, Outcome]:
    outcomes = list(launch(jobs, Options(tmp_path, tmp_path / "out", "cpu"), LocalSettings(**settings), quiet))
    assert len(outcomes) == len(jobs)
    return {o.job.spec.hash: o for o in outcomes}


def test_a_job_whose_workers_keep_dying_fails_and_the_rest_goes_on(
    scripted: type[Scripted], jobs: list[Job], tmp_path: Path
) -> None:
    bad, lucky = jobs[0].spec.hash, jobs[1].spec.hash
    scripted.scripts[bad] = [READY, ("dies", -9)] * 3
    epochs = [(lucky, n, 9, 0, 1, None, "") for n in range(1, 6)]
    scripted.scripts[lucky] = [m for tick in epochs for m in (READY, tick, ("dies", -9))]
    (tmp_path / "out" / bad).mkdir(parents=True)
    found = carried_out(jobs, tmp_path, slots=2)
    assert [found[j.spec.hash].status for j in jobs] == ["failed", "done", "done", "done"]
    assert "3 workers in a row were lost" in found[bad].error
    assert "killed by SIGKILL, as the system does when memory runs out" in found[bad].error
    assert (tmp_path / "out" / bad / "log.txt").read_text().count("SIGKILL") == 3
    assert all(w.stops for w in scripted.made), "no worker outlives the grid"


def test_workers_that_never_start_end_the_grid(scripted: type[Scripted], jobs: list[Job], tmp_path: Path) -> None:
    for script in scripted.scripts.values():
        script += [("dies", 1)] * 20
    with pytest.raises(RsbenchError, match=r"cannot be started \(exit code 1\)"):
        carried_out(jobs, tmp_path, slots=2)


def test_a_full_disk_in_a_worker_ends_the_grid(scripted: type[Scripted], jobs: list[Job], tmp_path: Path) -> None:
    scripted.scripts[jobs[1].spec.hash] = [READY, OSError(28, "No space left on device", "x")]
    with pytest.raises(OSError, match="No space left"):
        carried_out(jobs, tmp_path, slots=2)
    assert all(w.stops for w in scripted.made)


def test_a_run_above_the_memory_limit_is_stopped_and_said(
    scripted: type[Scripted], jobs: list[Job], tmp_path: Path
) -> None:
    large = jobs[2].spec.hash
    scripted.scripts[large] = [READY, ("holds", 3000.0)]
    found = carried_out(jobs, tmp_path, slots=2, memory_mb=2000)
    assert [found[j.spec.hash].status for j in jobs] == ["done", "done", "failed", "done"]
    assert "stopped at 3,000 MB of memory, the limit is memory_mb=2000" in found[large].error


def test_no_job_starts_before_there_is_memory_for_it(
    scripted: type[Scripted], jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most: list[int] = []

    def available() -> float:
        most.append(sum(w.job is not None for w in scripted.made))
        return 2600.0  # the floor, one limit, and no second

    monkeypatch.setattr(local, "available_mb", available)
    for script in scripted.scripts.values():
        script += [READY] * 3
    found = carried_out(jobs, tmp_path, slots=3, memory_mb=2000)
    assert {o.status for o in found.values()} == {"done"}
    assert max(most) == 1, "one job always runs, no second beside it"
    assert len({worker for worker, _ in scripted.log}) == 1


def test_workers_stay_with_what_they_are_warm_for(jobs: list[Job]) -> None:
    other = [dataclasses.replace(j, spec=dataclasses.replace(j.spec, backbone="x")) for j in jobs[:2]]
    pending = Pending([other[0], *jobs[:2], other[1]])
    first = pending.take(None)
    assert first == other[0], "the longest first"
    assert pending.take(warmth(jobs[3].spec)) == jobs[0]
    assert pending.take(warmth(first.spec)) == other[1]
    assert pending.take(warmth(first.spec)) == jobs[1], "nothing left that it is warm for"
    assert len(pending) == 0


def test_devices_of_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    assert slot_devices(LocalSettings(), "auto") == ["auto"] * 3
    assert slot_devices(LocalSettings(slots=2), "cpu") == ["cpu"] * 2
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert slot_devices(LocalSettings(), "auto") == ["cuda:0", "cuda:1"]
    assert slot_devices(LocalSettings(per_gpu=2), "cuda") == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert slot_devices(LocalSettings(per_gpu=3), "cuda:1") == ["cuda:1"] * 3
    assert slot_devices(LocalSettings(slots=3), "auto") == ["cuda:0", "cuda:1", "cuda:0"]
    assert slot_devices(LocalSettings(), "cpu") == ["cpu"] * 3


def test_settings_as_typed() -> None:
    assert settings_of("local", ["slots=3,per_gpu=2", "memory_mb=500"]) == LocalSettings(3, 2, 500)
    assert settings_of("local", []) == LocalSettings()
    for items, says in (
        (["slot=3"], "'slot'; did you mean slots"),
        (["slots"], "has no '='"),
        (["slots=two"], "must be a whole number"),
        (["per_gpu=0"], "per_gpu=0: give 1 or more"),
    ):
        with pytest.raises(RsbenchError, match=says):
            settings_of("local", items)
    with pytest.raises(RsbenchError, match="did you mean local"):
        settings_of("locl", [])


def test_every_launcher_has_a_card_whose_settings_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("local", "ray", "slurm"):
        told = settings_told(name)
        assert told and all(line.partition(": ")[2] for line in told), told
        try:
            assert isinstance(LAUNCHERS.load(name), LauncherCard)
        except DependencyError as error:
            assert f"rsbench[{name}]" in str(error)


def test_signals_are_named() -> None:
    assert local._death(-signal.SIGSEGV) == "killed by SIGSEGV"
