"""The benchmark of the training loop compares the same work, and says what it cannot measure."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_train.py"
SMALL = ["--device", "cpu", "--backbones", "tiny", "--batch", "4", "--steps", "2", "--warmup", "1", "--repeats", "1"]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("rsbench_gpu_train", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_both_loops_do_the_same_work_and_are_timed(script: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "new" / "gpu_train.json"
    script.main([*SMALL, "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["skipped"] == [] and found["steps"] == 2 and "torch" in found["hardware"]["versions"]
    (row,) = found["rows"]
    assert row["backbone"] == "tiny" and len(row["checked_losses"]) == script.CHECKED
    for loop in (row["ours"], row["bare"]):
        assert loop["images_per_s"] > 0 and loop["step_ms"] > 0
    for spread in (row["ratio"], row["ratio_of_median_steps"], row["share_outside_model"]):
        assert spread["min"] <= spread["median"] <= spread["max"]
    assert row["epoch_end_s"] > 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_that_of_a_plain_loop(script: ModuleType, precision: str) -> None:
    """A backward pass under autocast would lose digits: 6e-4 (bf16) and 3e-2 (fp16) of the loss in four steps."""
    work = script.prepare_work("tiny", 4, script.CHECKED, precision, torch.device("cpu"))
    assert script.ours(work).losses == pytest.approx(script.bare(work).losses, rel=2e-4)


def test_other_work_is_refused(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare loop without weight updates starts with the same loss and departs from it."""
    work = script.prepare_work("tiny", 4, script.CHECKED, "fp32", torch.device("cpu"))
    own = script.ours(work).losses
    assert own == pytest.approx(script.bare(work).losses, rel=1e-4)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    idle = script.bare(work).losses
    assert idle[0] == pytest.approx(own[0], rel=1e-5)
    assert idle != pytest.approx(own, rel=script.RTOL["fp32"])
    monkeypatch.undo()
    monkeypatch.setattr(script, "TAU", 0.5)
    monkeypatch.setattr(script, "ours", lambda work: script.Measured([], own, None))
    with pytest.raises(AssertionError, match="different work"):
        script.check_same_work(work)


def test_what_cannot_be_measured_is_said(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "none.json"
    script.main(["--device", "cuda:99", "--out", str(out)])
    assert "skipped: --device 'cuda:99'" in capsys.readouterr().out and not out.exists()
    monkeypatch.setitem(script.CASES, "tiny", ("full", "hub", 32))
    script.main([*SMALL, "--out", str(out)])
    assert json.loads(out.read_text())["skipped"][0]["backbone"] == "tiny"
    assert "skipped tiny: unknown weights 'hub'" in capsys.readouterr().out
