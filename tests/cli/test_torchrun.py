"""The command itself under torchrun, two processes on one run: same result, kills, errors said once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rsbench.cli.app import main
from rsbench.results.store import RunFolder

pytestmark = pytest.mark.slow
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "rsbench")
RUN = ("run", "--dataset", "toy", "--method", "infonce", "--noise", "0.4", "--device", "cpu")
PATIENCE = 240.0


@pytest.fixture(autouse=True)
def _accelerate() -> None:
    pytest.importorskip("accelerate")


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen((*TORCHRUN, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def the_run(out: Path) -> RunFolder:
    (found,) = (p.parent for p in out.glob("*/spec.json"))
    return RunFolder(out, found.name)


def bytes_of(folder: RunFolder) -> dict[str, bytes]:
    """What must not depend on a kill."""
    paths = [folder.weights, folder.history, folder.spec, *sorted(folder.pairs.iterdir())]
    return {p.name: p.read_bytes() for p in paths}


def test_two_processes_end_like_one(tmp_path: Path) -> None:
    words = (*RUN, "--set", "recipe.epochs=1")
    assert main([*words, "--out", str(tmp_path / "one"), "--jobs", "1"]) == 0
    code, out, err = finished(start(*words, "--out", str(tmp_path / "two")))
    assert code == 0, err
    assert out.count("infonce toy noise 0.4 seed 0: test mR") == 1, "one process speaks"
    one, two = the_run(tmp_path / "one"), the_run(tmp_path / "two")
    assert one.path.name == two.path.name
    alone, together = one.read_result(), two.read_result()
    assert (alone["environment"]["world_size"], together["environment"]["world_size"]) == (1, 2)
    for part in ("val", "test"):
        assert together[part]["best"] == pytest.approx(alone[part]["best"], abs=1e-4)
    found, expected = (r["detection"]["best"]["auroc"] for r in (together, alone))
    assert found == pytest.approx(expected, abs=1e-4)
    assert not two.checkpoint.exists() and two.weights.exists()


def test_a_kill_of_one_process_ends_all_and_the_run_goes_on(tmp_path: Path) -> None:
    words = (*RUN, "--set", "recipe.epochs=12")
    code, _, err = finished(start(*words, "--out", str(tmp_path / "whole")))
    assert code == 0, err
    process = start(*words, "--out", str(tmp_path / "killed"))
    deadline = time.monotonic() + PATIENCE
    while not list((tmp_path / "killed").glob("*/checkpoint.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    folder = the_run(tmp_path / "killed")
    os.kill(json.loads((folder.path / "running.json").read_text())["pid"], signal.SIGKILL)
    assert finished(process)[0] != 0
    assert folder.state() == "partial", "a lost process is no property of the run"
    assert finished(start(*words, "--out", str(tmp_path / "killed")))[0] == 0
    assert "resumed after epoch" in folder.log_file.read_text()
    assert bytes_of(folder) == bytes_of(the_run(tmp_path / "whole"))


def test_an_error_is_said_once_and_recorded(tmp_path: Path) -> None:
    code, _, err = finished(start(*RUN, "--set", "recipe.lr=1e30", "--out", str(tmp_path)))
    assert code != 0
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and "the loss is" in said[0] and "start the same command again" in said[0]
    assert the_run(tmp_path).state() == "failed"
    assert "SIGABRT" not in err and re.search(r"rank +: 0 .*\n +exitcode +: 2 ", err), (
        "it ends as an error of the input"
    )


def test_what_runs_several_runs_is_refused(tmp_path: Path) -> None:
    code, _, err = finished(start(*RUN, "--jobs", "2", "--out", str(tmp_path)))
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code != 0 and len(said) == 1 and "drop --launcher, --launch and --jobs" in said[0]
    assert not list(tmp_path.iterdir())
