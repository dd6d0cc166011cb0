"""A real run, killed by SIGKILL at ten random moments, ends with the same bytes each time."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from results_of import files, numbers

from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute
from rsbench.experiment.spec import RunSpec
from rsbench.results.store import RunFolder

KILLS = 10
SETTINGS = {"recipe.epochs": ("4",), "method.warmup_epochs": ("2",)}


def spec_of_a_real_run(root: Path) -> RunSpec:
    request = Request(methods=("srem",), datasets=("toy",), rates=(0.4,), settings=SETTINGS)
    return resolve(request, root)[0]


def run_and_kill(spec: RunSpec, options: Options, after: float) -> bool:
    """Start the run in a process of its own and kill it; whether it was still at work."""
    process = multiprocessing.get_context("fork").Process(target=execute, args=(spec, options))
    process.start()
    process.join(after)
    alive = process.is_alive()
    if alive:
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    return alive


def killed_once(spec: RunSpec, options: Options, after: float) -> None:
    """Start a fresh run and kill it; sooner where it was already over."""
    while not run_and_kill(spec, options, after):
        shutil.rmtree(options.out)
        after *= 0.7


@pytest.mark.parametrize("seed", [11])
def test_ten_kills_leave_no_trace(data_root: Path, tmp_path: Path, seed: int) -> None:
    spec = spec_of_a_real_run(data_root)
    execute(spec, Options(data_root, tmp_path / "warm"))  # features are cached from here on
    started = time.monotonic()
    execute(spec, Options(data_root, tmp_path / "whole"))
    length = time.monotonic() - started
    whole = RunFolder(tmp_path / "whole", spec.hash)

    draw, resumed = random.Random(seed), 0
    for attempt in range(KILLS):
        options = Options(data_root, tmp_path / f"killed-{attempt}")
        folder = RunFolder(options.out, spec.hash)
        killed_once(spec, options, draw.uniform(0.05, 0.95) * length)
        resumed += folder.checkpoint.exists()
        execute(spec, options)
        assert folder.state() == "done"
        assert numbers(folder) == numbers(whole)
        assert files(folder) == files(whole)
    assert resumed >= 2, "some kill must hit a run that has a checkpoint"
