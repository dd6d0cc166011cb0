"""Published checkpoints in runs, zero-shot rows and the noise scorer; their warnings."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

if importlib.util.find_spec("open_clip") is None:
    pytest.skip("open_clip is not installed", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parents[1] / "backbones"))
from small_clip import shrunk

from rsbench.backbones.build import build_backbone
from rsbench.backbones.resolve import warning_of
from rsbench.cli.app import main
from rsbench.errors import UsageError
from rsbench.experiment import evaluate, scorer
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute
from rsbench.training.loop import Trainer

NAME = "georsclip-vit-b32-ret2"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small twin of the checkpoint."""
    with shrunk():
        state = build_backbone(NAME, "full", "random", {}, 0).state_dict()
    found = tmp_path / "RS5M_ViT-B-32_RET-2.pt"
    torch.save({**{k.removeprefix("clip."): v for k, v in state.items()}, "logit_scale": torch.tensor(4.6)}, found)
    return found


def test_only_leaking_weights_are_warned_of() -> None:
    assert "training captions of RSICD and RSITMD" in warning_of(NAME, "")
    assert warning_of(NAME, "some/file.pt") == warning_of(NAME, "hub") == warning_of(NAME, "")
    assert "UCM" in warning_of("remoteclip-rn50", "hub")
    assert not warning_of(NAME, "random")
    assert not warning_of("clip-vit-b32", "hub") and not warning_of("georsclip-vit-b32", "hub")


def request(file: Path) -> Request:
    return Request(("infonce",), ("toy",), backbone=NAME, weights=str(file), settings={"recipe.epochs": ("1",)})


def test_training_starts_with_the_warning(
    file: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the log, and among the warnings that go into the result, before the first step."""
    seen: list[str] = []

    def fit(trainer: Trainer) -> None:
        seen.extend(trainer.state.warnings)
        raise UsageError("far enough")

    monkeypatch.setattr(Trainer, "fit", fit)
    with shrunk(), pytest.raises(UsageError, match="far enough"):
        execute(resolve(request(file), data_root)[0], Options(data_root, tmp_path, "cpu"))
    assert seen == [warning_of(NAME, "hub")]
    assert f"warning: {seen[0]}" in next(tmp_path.glob("*/log.txt")).read_text()


@pytest.mark.slow
def test_result_records_checkpoint_and_warning(file: Path, data_root: Path, tmp_path: Path) -> None:
    with shrunk():
        result = execute(resolve(request(file), data_root)[0], Options(data_root, tmp_path / "results", "cpu"))
    assert result["warnings"] == [warning_of(NAME, "hub")]
    facts = result["method"]["backbone"]
    assert (facts["origin"], facts["warning"]) == (file.name, warning_of(NAME, "hub"))
    assert len(facts["sha256"]) == 64


def test_run_and_eval_print_it(
    file: Path, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"run": "", "method": "", "trained_on": "", "dataset": "toy"}
    monkeypatch.setattr(evaluate, "evaluate_backbone", lambda *_: row)
    words = ["--root", str(data_root), "--dataset", "toy", "--backbone", NAME, "--weights", str(file)]
    assert main(["eval", *words, "--json"]) == 0
    assert capsys.readouterr().err.count("warning: GeoRSCLIP RET-2") == 1
    # weights that are cut stop the run before it trains; the warning has been shown
    file.write_bytes(file.read_bytes()[:1000])
    words += ["--method", "infonce,vse", "--out", str(tmp_path / "o"), "--jobs", "1"]
    assert main(["run", *words]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("warning: GeoRSCLIP RET-2") == 1 and "cut off or damaged" in printed.err


def test_scorer_of_pmp_noise_is_the_registered_backbone(file: Path) -> None:
    with shrunk():
        method, facts, warnings = scorer._pretrained(f"georsclip:{file}")
    assert method.backbone.card.name == "georsclip-vit-b32" and not warnings
    assert (facts["origin"], facts["activation"]) == (file.name, "quick_gelu")
