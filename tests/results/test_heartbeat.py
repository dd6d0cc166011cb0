"""Signs of life: written while a run goes, judged by the right clock, gone at its end."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from rsbench.errors import BusyError, ResultError, UnknownNameError, UsageError
from rsbench.results.folders import find_run, run_folders
from rsbench.results.heartbeat import Heart, disk_clock, is_alive, read_beat
from rsbench.results.plans import Planned, remember_plan, remembered
from rsbench.results.store import RunFolder

HASH = "0123456789abcdef"


def dead_pid() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def write_beat(folder: Path, **changes: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with Heart(folder, 10, "cpu"):
        plain = json.loads((folder / "running.json").read_text())
    (folder / "running.json").write_text(json.dumps(plain | changes))


def test_a_beat_says_where_the_run_is_and_goes_with_it(tmp_path):
    with Heart(tmp_path, 10, "auto") as heart:
        first = json.loads((tmp_path / "running.json").read_text())
        assert (first["host"], first["pid"], first["epoch"], first["epochs"]) == (
            socket.gethostname(), os.getpid(), 0, 10,
        )  # fmt: skip
        heart.device = "cpu"
        heart.beat(2, 10, 5, 20, 41.5, "ranking")
        found = read_beat(tmp_path)
        assert found is not None
        beat = found[0]
        assert (beat.epoch, beat.step, beat.steps, beat.mr, beat.device) == (2, 5, 20, 41.5, "cpu")
        assert beat.share == pytest.approx((2 + 5 / 20) / 10)
        assert beat.doing == "ranking"
    assert list(tmp_path.iterdir()) == []


def test_many_ticks_are_few_writes_and_an_error_takes_the_file_away(tmp_path, monkeypatch):
    writes = []
    moment = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    with pytest.raises(ValueError, match="x"), Heart(tmp_path, 1, "cpu") as heart:
        monkeypatch.setattr(heart, "_write", lambda *a, **k: writes.append(moment[0]))
        for _ in range(1000):
            moment[0] += 0.01
            heart.beat(0, 1, 1, 2)
        raise ValueError("x")
    assert len(writes) == 5, "10 seconds, one write every 2"
    assert not (tmp_path / "running.json").exists()


def test_a_full_disk_does_not_stop_the_run(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with Heart(tmp_path, 1, "cpu") as heart:
        heart.beat(0, 1, 1, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3}', "null"])
def test_a_half_written_beat_is_none(tmp_path, content):
    (tmp_path / "running.json").write_text(content)
    assert read_beat(tmp_path) is None


def test_time_left_follows_the_pace_since_this_process_took_the_run_up(tmp_path):
    write_beat(tmp_path, epoch=6, step=0, steps=10, first=0.5, first_at=1000.0, updated=1030.0)
    beat = read_beat(tmp_path)[0]
    assert beat.seconds_left == pytest.approx(30 / 0.1 * 0.4), "a tenth took 30 s, four tenths are left"


def test_on_this_host_the_lock_decides(tmp_path):
    write_beat(tmp_path)
    beat = read_beat(tmp_path)[0]
    assert is_alive(beat, 1e9, True)
    assert not is_alive(beat, 0.0, False)
    assert is_alive(beat, 1e9, None), "the lock cannot be tried: the process lives"
    write_beat(tmp_path, pid=dead_pid())
    assert not is_alive(read_beat(tmp_path)[0], 0.0, None)


def test_on_other_hosts_the_age_decides_and_long_pauses_are_allowed_for(tmp_path):
    write_beat(tmp_path, host="elsewhere", pid=1, pause=1.0)
    beat = read_beat(tmp_path)[0]
    assert [is_alive(beat, age, False) for age in (0.0, 100.0, 200.0)] == [True, True, False]
    write_beat(tmp_path, host="elsewhere", pid=1, pause=100.0)
    beat = read_beat(tmp_path)[0]
    assert [is_alive(beat, age, False) for age in (400.0, 600.0)] == [True, False]
    assert is_alive(beat, 1e9, True), "a held lock is proof"


def test_the_age_is_taken_by_the_clock_of_the_disk(tmp_path, monkeypatch):
    write_beat(tmp_path)
    monkeypatch.setattr(time, "time", lambda: 5e9)
    assert abs(disk_clock(tmp_path) - read_beat(tmp_path)[1]) < 60
    assert not list(tmp_path.glob(".*"))
    assert disk_clock(tmp_path / "not there") == 5e9


def hold(folder: str, ready: multiprocessing.synchronize.Event) -> None:
    with RunFolder(Path(folder).parent, Path(folder).name).claimed():
        ready.set()
        time.sleep(60)


def test_a_lock_is_seen_while_held_and_free_after_a_kill(tmp_path):
    run = RunFolder(tmp_path, HASH)
    assert run.held() is False
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(str(run.path), ready))
    process.start()
    try:
        assert ready.wait(30)
        assert run.held() is True
        with pytest.raises(BusyError), run.claimed():
            pass
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert run.held() is False
    with run.claimed():
        assert run.held() is True


def test_plans_are_remembered_once_and_damaged_ones_left_out(tmp_path):
    runs = [Planned("b" * 16, "srem toy", 3.5), Planned("a" * 16, "vse toy")]
    file = remember_plan(tmp_path / "out", runs)
    assert remember_plan(tmp_path / "out", runs[::-1]) == file
    (file.parent / "damaged.json").write_text('{"runs": [')
    (file.parent / "foreign.json").write_text('{"runs": [{"hash": 1}], "pid": "x"}')
    (plan,) = remembered(tmp_path / "out")
    assert set(plan.runs) == set(runs)
    assert plan.driven is True
    remember_plan(tmp_path / "out", runs, detached=True)
    assert [p.driven for p in remembered(tmp_path / "out")] == [None]
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | {"pid": dead_pid()}))
    assert [p.driven for p in remembered(tmp_path / "out")] == [False]
    assert remembered(tmp_path / "nowhere") == []


def test_runs_are_found_by_folder_and_prefix(tmp_path):
    for name in ("aaaa000000000000", "aaab000000000000"):
        (tmp_path / "grid" / name).mkdir(parents=True)
        (tmp_path / "grid" / name / "spec.json").write_text("{}")
    (tmp_path / "grid" / ".hidden" / "aaac000000000000").mkdir(parents=True)
    (tmp_path / "grid" / ".hidden" / "aaac000000000000" / "spec.json").write_text("{}")
    assert [f.name for f in run_folders(tmp_path)] == ["aaaa000000000000", "aaab000000000000"]
    assert find_run("aaab", tmp_path) == tmp_path / "grid" / "aaab000000000000"
    assert find_run(str(tmp_path / "grid" / "aaaa000000000000"), tmp_path) == tmp_path / "grid" / "aaaa000000000000"
    with pytest.raises(UsageError, match="'aaa' is ambiguous: 2 runs"):
        find_run("aaa", tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean aaab000000000000"):
        find_run("aaab000000000001", tmp_path)
    with pytest.raises(ResultError, match="there is no folder"):
        find_run("aaa", tmp_path / "none")
