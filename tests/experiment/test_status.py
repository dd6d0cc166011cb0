"""Where a results folder stands: every state told from what is on disk, alive or dead, whole or damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stored_runs import done, failed, json_of, put, result_of, spec_of

from rsbench.errors import ResultError
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute
from rsbench.experiment.status import Watcher
from rsbench.results.heartbeat import Heart
from rsbench.results.plans import Planned, remember_plan
from rsbench.results.store import RunFolder


def look(out: Path):
    return Watcher(out).look()


def foreign_beat(run: Path, age: float = 0.0, **changes: object) -> None:
    with Heart(run, 4, "cuda:0") as heart:
        heart.beat(1, 4, 0, 10, 33.0)
        plain = json.loads((run / "running.json").read_text())
    (run / "running.json").write_text(json.dumps(plain | {"host": "node7", "pid": 1} | changes))
    moment = time.time() - age
    os.utime(run / "running.json", (moment, moment))


def test_every_state_is_told(tmp_path):
    done(tmp_path, 0, 21.5)
    failed(tmp_path, 1, "loss is NaN")
    put(tmp_path, spec_of(2), checkpoint__safetensors=b"x")
    put(tmp_path, spec_of(3))
    foreign_beat(put(tmp_path, spec_of(4)))
    foreign_beat(put(tmp_path, spec_of(5)), age=9999.0)
    (put(tmp_path, spec_of(6)) / "result.json").write_text('{"schema": 1, "spec"')
    (put(tmp_path, spec_of(7)) / "spec.json").write_text('{"dataset": "to')
    (tmp_path / "0123456789abcdef").mkdir()
    (tmp_path / "0123456789abcdef" / ".lock").touch()
    remember_plan(tmp_path, [Planned(spec_of(s).hash, f"infonce toy seed {s}", 30.0) for s in (0, 8)])
    now = look(tmp_path)
    states = {r.hash: r.state for r in now.runs}
    wanted = ["done", "failed", "partial", "partial", "running", "partial", "damaged", "damaged", "waiting"]
    assert states == {spec_of(s).hash: state for s, state in enumerate(wanted)}
    runs = {r.hash: r for r in now.runs}
    assert runs[spec_of(0).hash].mr == 21.5
    assert runs[spec_of(0).hash].label == "infonce toy noise 0.4 seed 0"
    assert runs[spec_of(1).hash].reason == "loss is NaN"
    assert "goes on from its checkpoint" in runs[spec_of(2).hash].reason
    assert "starts anew" in runs[spec_of(3).hash].reason
    assert (runs[spec_of(4).hash].beat.host, runs[spec_of(4).hash].mr) == ("node7", 33.0)
    assert "killed in epoch 2/4 on node7" in runs[spec_of(5).hash].reason
    assert now.counts == {"running": 1, "done": 1, "failed": 1, "partial": 3, "waiting": 1, "damaged": 2}
    assert now.driven is True
    assert not now.over


@pytest.mark.parametrize("skew", [-86400.0, 86400.0])
def test_a_clock_that_is_a_day_off_does_no_harm(tmp_path, monkeypatch, skew):
    foreign_beat(put(tmp_path, spec_of(0)))
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + skew)
    assert [r.state for r in look(tmp_path).runs] == ["running"]


def test_a_run_that_is_held_without_a_sign_of_life_is_starting(tmp_path):
    run = RunFolder(tmp_path, spec_of(0).hash)
    with run.claimed():
        assert [(r.state, r.label) for r in look(tmp_path).runs] == [("running", "?")]
    assert look(tmp_path).runs == ()


def test_a_failed_run_that_is_tried_again_runs(tmp_path):
    run = failed(tmp_path, 0)
    with RunFolder(tmp_path, run.name).claimed(), Heart(run, 4, "cpu"):
        assert [r.state for r in look(tmp_path).runs] == ["running"]
    assert [r.state for r in look(tmp_path).runs] == ["failed"]


def test_time_left_of_all(tmp_path):
    """20 s (a plan's estimate), 10 s (what the finished one took) and the running one's own pace, on one worker."""
    done(tmp_path, 0)
    foreign_beat(put(tmp_path, spec_of(1)), first=0.0, first_at=1000.0, updated=1005.0, epoch=1, step=0)
    planned = [Planned(spec_of(2).hash, "infonce toy", 20.0), Planned(spec_of(3).hash, "infonce toy")]
    remember_plan(tmp_path, planned)
    now = look(tmp_path)
    assert sorted(round(r.left) for r in now.of("waiting")) == [10, 20]
    (running,) = now.of("running")
    assert running.left == pytest.approx(15.0, abs=2.0), "a quarter took 5 s"
    assert now.left == pytest.approx(45.0, abs=2.0)


def test_finished_runs_are_read_once_and_changes_are_seen(tmp_path, monkeypatch):
    run = done(tmp_path, 0, 20.0)
    watcher = Watcher(tmp_path)
    assert watcher.look().runs[0].mr == 20.0
    with monkeypatch.context() as patch:
        patch.setattr("rsbench.experiment.status.read_result", None)
        assert watcher.look().runs[0].mr == 20.0
    (run / "result.json").write_text(json.dumps(result_of(spec_of(0), 30.25)))
    assert watcher.look().runs[0].mr == 30.25


def test_over_once_nobody_works_and_nothing_will_come(tmp_path):
    done(tmp_path, 0)
    assert look(tmp_path).over
    put(tmp_path, spec_of(1))
    assert not look(tmp_path).over, "someone may start it"
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    file = remember_plan(tmp_path, [Planned(spec_of(1).hash, "x")])
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pid": child}))
    assert look(tmp_path).over, "its driver is gone"


def test_plans_of_grids_in_folders_below_count(tmp_path):
    done(tmp_path / "toy", 0)
    remember_plan(tmp_path / "toy", [Planned(spec_of(s).hash, "x") for s in range(3)])
    assert look(tmp_path).counts["waiting"] == 2


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(ResultError, match="there is no folder"):
        look(tmp_path / "none")


def test_specs_of_a_newer_version_do_not_hide_the_rest(tmp_path):
    done(tmp_path, 0)
    put(tmp_path, spec_of(1), result_of(spec_of(1), schema=99))
    (tmp_path / spec_of(2).hash).mkdir()
    (tmp_path / spec_of(2).hash / "spec.json").write_text(json.dumps({**json_of(spec_of(2)), "noise": None}))
    now = look(tmp_path)
    assert sorted(r.state for r in now.runs) == ["damaged", "done", "partial"]
    assert "schema 99" in now.of("damaged")[0].reason


@pytest.mark.parametrize(
    "odd", [{"test": 3, "val": 3}, {"test": {}, "val": {}}, {"time": None}, {"time": {"total": []}}]
)
def test_figures_that_are_not_there_are_no_figures(tmp_path, odd):
    put(tmp_path, spec_of(0), result_of(spec_of(0), **odd))
    assert [(r.state, r.mr) for r in look(tmp_path).runs] == [("done", None)]


def test_a_folder_that_cannot_be_written_is_watched_by_the_process_alone(tmp_path, monkeypatch):
    run = put(tmp_path, spec_of(0))
    (run / ".lock").touch()
    with Heart(run, 4, "cpu"):

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(30, "Read-only file system")

        monkeypatch.setattr("rsbench.results.store.FileLock", refuse)
        monkeypatch.setattr(Path, "touch", refuse)
        assert [r.state for r in look(tmp_path).runs] == ["running"]


KILLED = """
import sys
from pathlib import Path
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute
spec = resolve(Request(("infonce",), ("toy",), (0.4,), settings={"recipe.epochs": ("500",)}), Path(sys.argv[1]))[0]
execute(spec, Options(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def test_a_real_run_is_seen_alive_then_killed_then_done(data_root, tmp_path):
    settings = {"recipe.epochs": ("2",)}
    spec = resolve(Request(("infonce",), ("toy",), (0.4,), settings=settings), data_root)[0]
    seen = []
    execute(spec, Options(data_root, tmp_path / "whole"), lambda _: seen.append(look(tmp_path / "whole").runs[0]))
    assert {r.state for r in seen} == {"running"}
    assert {r.label for r in seen} == {"infonce toy noise 0.4 seed 0"}
    assert {r.beat.device for r in seen} == {"cpu"}
    assert [r.state for r in look(tmp_path / "whole").runs] == ["done"]
    assert not list((tmp_path / "whole").rglob("running.json"))
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(data_root), str(tmp_path / "killed")])
    try:
        deadline = time.monotonic() + 60
        while not (beats := list(tmp_path.glob("killed/*/running.json"))) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert beats, "it never gave a sign of life"
        assert [r.state for r in look(tmp_path / "killed").runs] == ["running"]
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert [r.state for r in look(tmp_path / "killed").runs] == ["partial"]
    assert beats[0].exists()
