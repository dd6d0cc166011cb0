"""status, logs, retry, gc, export and import as they are typed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console
from stored_runs import done, failed, put, spec_of, tree

import rsbench.cli.status as status_command
from rsbench.cli import logs
from rsbench.cli.app import main
from rsbench.cli.console import spoken
from rsbench.experiment.plan import Job
from rsbench.results.heartbeat import Heart
from rsbench.results.plans import Planned, remember_plan
from rsbench.results.store import RunFolder


@pytest.fixture
def grid(tmp_path):
    out = tmp_path / "grid"
    for seed in range(3):
        done(out, seed, 20.0 + seed)
    failed(out, 3, "loss is NaN in epoch 2")
    put(out, spec_of(4), checkpoint__safetensors=b"c")
    (put(out, spec_of(5)) / "result.json").write_text("{")
    remember_plan(out, [Planned(spec_of(s).hash, f"infonce toy noise 0.4 seed {s}", 10.0) for s in range(8)], True)
    return out


def test_status_once(grid, capsys):
    assert main(["status", str(grid)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == f"{grid}: 8 runs: 3 done, 1 failed, 1 partial, 2 waiting, 1 damaged; none runs"
    assert f"failed: {spec_of(3).hash} infonce toy noise 0.4 seed 3: loss is NaN in epoch 2" in lines
    assert any(line.startswith(f"partial: {spec_of(4).hash}") and "checkpoint" in line for line in lines)
    assert any(line.startswith(f"damaged: {spec_of(5).hash}") for line in lines)


def test_status_of_a_running_run_and_as_json(grid, capsys):
    run = RunFolder(grid, spec_of(4).hash)
    with run.claimed(), Heart(run.path, 4, "cpu") as heart:
        heart.beat(1, 4, 5, 10, 37.25)
        assert main(["status", str(grid), "--watch"]) == 0, "no terminal: one picture"
        shown = capsys.readouterr().out
        assert main(["status", str(grid), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "1 running" in shown.splitlines()[0]
    (line,) = (line for line in shown.splitlines() if line.startswith(run.path.name))
    (beat,) = (r["beat"] for r in found["runs"] if r["state"] == "running")
    words = line.split()
    assert words[1:8] == ["infonce", "toy", "noise", "0.4", "seed", "4", "2/4"]
    assert words[8] in ("37.2", "37.3")
    assert words[-2:] == [beat["host"], "cpu"]
    assert found["counts"]["running"] == 1
    assert {r["state"] for r in found["runs"]} == {"running", "done", "failed", "waiting", "damaged"}
    assert {r["hash"]: r["mr"] for r in found["runs"]}[run.path.name] == 37.25


def test_the_live_view_ends_with_the_table(tmp_path, monkeypatch):
    out = tmp_path / "grid"
    run = put(out, spec_of(0))
    done(out, 1)
    terminal = Console(force_terminal=True, width=160, highlight=False, record=True, file=io.StringIO())
    monkeypatch.setattr(status_command, "console", terminal)
    monkeypatch.setattr("rsbench.cli.emit.console", terminal)
    monkeypatch.setattr(status_command, "REFRESH", 0.05)
    with RunFolder(out, run.name).claimed(), Heart(run, 4, "cpu"):

        def finish():
            time.sleep(0.3)
            done(out, 0)

        worker = threading.Thread(target=finish)
        worker.start()
        assert main(["status", str(out), "--watch"]) == 0
        worker.join()
    text = terminal.export_text()
    assert "2 runs: 2 done" in text
    assert "infonce" in text.split("2 runs: 2 done")[-1]
    assert "mR" in text


def test_status_of_nothing(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out
    assert main(["status", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_durations():
    assert [spoken(s) for s in (0, 89, 90, 600, 5399, 7260)] == [
        "0 s",
        "89 s",
        "2 min",
        "10 min",
        "1 h 30 min",
        "2 h 1 min",
    ]


def test_logs(grid, capsys):
    name = spec_of(0).hash
    assert main(["logs", str(grid / name)]) == 0
    assert capsys.readouterr().out == "epoch 1\nepoch 2\nepoch 3\n"
    assert main(["logs", name[:10], "-r", str(grid), "-n", "2"]) == 0
    assert capsys.readouterr().out == "epoch 2\nepoch 3\n"
    assert main(["logs", name, "-r", str(grid), "-n", "0"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["logs", name, "-r", str(grid), "-n", "-1"]) == 2
    assert main(["logs", "", "-r", str(grid)]) == 2
    assert main(["logs", name[:-1] + "_", "-r", str(grid)]) == 2
    assert f"did you mean {name}" in capsys.readouterr().err


def test_logs_follow_until_the_run_ends(grid, capsys, monkeypatch):
    monkeypatch.setattr("rsbench.cli.logs.POLL", 0.05)
    run = RunFolder(grid, spec_of(4).hash)

    begun, followed, ask = threading.Event(), threading.Event(), logs._working

    def working(folder):
        followed.set()
        return ask(folder)

    def work():
        with run.claimed():
            begun.set()
            followed.wait()
            run.log("epoch 4 \u2014 new")
            run.log("the end")

    monkeypatch.setattr(logs, "_working", working)
    worker = threading.Thread(target=work)
    worker.start()
    begun.wait()
    assert main(["logs", str(run.path), "-f", "-n", "1"]) == 0
    worker.join()
    assert capsys.readouterr().out == "epoch 3\nepoch 4 \u2014 new\nthe end\n"


def test_retry_plans_what_failed_exactly_as_stored(grid, capsys, monkeypatch):
    launched = []
    monkeypatch.setattr("rsbench.cli.launching.launch_plan", lambda jobs, asked: launched.append((jobs, asked)) or 0)
    assert main(["retry", str(grid), "--failed", "--dry-run"]) == 0
    assert spec_of(3).hash in (shown := capsys.readouterr().out)
    assert "loss is NaN" in shown
    assert launched == []
    assert main(["retry", str(grid)]) == 0
    ((jobs, asked),) = launched
    assert jobs == [Job(spec_of(3), "failed", True)]
    assert asked["out"] == grid
    assert main(["retry", str(grid), "--failed", "--partial"]) == 0
    assert sorted(j.spec.seed for j in launched[1][0]) == [3, 4]


def test_retry_leaves_out_what_it_cannot_repeat(grid, capsys, monkeypatch):
    monkeypatch.setattr("rsbench.cli.launching.launch_plan", lambda jobs, asked: 0)
    spec = json.loads((grid / spec_of(3).hash / "spec.json").read_text())
    (grid / spec_of(3).hash / "spec.json").write_text(json.dumps(spec | {"seed": 99}))
    assert main(["retry", str(grid)]) == 1
    assert "has a spec of another version or another run" in capsys.readouterr().err
    (grid / spec_of(3).hash / "spec.json").write_text("{")
    assert main(["retry", str(grid)]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_gc_shows_first_and_deletes_on_yes(grid, capsys):
    checkpoint = grid / spec_of(0).hash / "checkpoint.safetensors"
    checkpoint.write_bytes(b"x" * 2_500_000)
    before = tree(grid)
    assert main(["gc", str(grid)]) == 0
    shown = capsys.readouterr().out
    assert "2.5  checkpoint of a finished run" in shown
    assert "2.5 MB could be deleted; do it with --yes" in shown
    assert tree(grid) == before
    assert main(["gc", str(grid), "--yes", "--json"]) == 0
    assert [i["bytes"] for i in json.loads(capsys.readouterr().out)["items"]] == [2_500_000]
    assert tree(grid) == {k: v for k, v in before.items() if "checkpoint" not in k or spec_of(0).hash not in k}
    assert main(["gc", str(grid)]) == 0


def test_export_and_import(grid, tmp_path, capsys):
    archive = tmp_path / "grid.tar"
    assert main(["export", str(grid), "-o", str(archive)]) == 0
    said = capsys.readouterr()
    assert "4 runs" in said.out
    assert f"left out: run {spec_of(5).hash}" in said.err
    assert main(["import", str(archive), "--out", str(tmp_path / "mine")]) == 0
    assert "4 runs imported, 0 were here already" in capsys.readouterr().out
    done(tmp_path / "mine", 0, 77.0)
    assert main(["import", str(archive), "--out", str(tmp_path / "mine")]) == 1
    said = capsys.readouterr()
    assert f"clash: run {spec_of(0).hash} has other numbers in grid.tar" in said.err
    assert "0 runs imported, 2 were here already, 1 unfinished ones left out, 1 clashes" in said.out
    assert main(["export", str(grid), "-o", str(tmp_path / "grid.zip")]) == 2
    assert main(["import", str(grid), "--out", str(tmp_path / "mine")]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_doctor_checks_results(grid, capsys):
    assert main(["doctor", "--results", str(grid), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["results"]["done"] == "3"
    assert any(spec_of(5).hash in problem for problem in facts["problems"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_can_be_watched(grid, capsys):
    grid.chmod(0o500)
    try:
        assert main(["status", str(grid)]) == 0
    finally:
        grid.chmod(0o700)


@pytest.mark.parametrize("words", ["status {}", "logs {}/" + spec_of(0).hash, "gc {}", "export {} -o {}/x.tar"])
def test_no_torch(grid, words):
    script = (
        "import sys; from rsbench.cli.app import main; code = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", script, *words.replace("{}", str(grid)).split()], check=True)
