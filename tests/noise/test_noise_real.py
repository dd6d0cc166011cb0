"""Kind ``real``: pairs as they come, and no claim about them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from rsbench.errors import UsageError
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute
from rsbench.noise.imported import import_index
from rsbench.noise.index import NoiseSpec, known_mismatches, realised
from rsbench.noise.inspect import summarise
from rsbench.noise.make import make_index
from rsbench.registry import DATASETS
from rsbench.report.build import build_tables

REAL = NoiseSpec("real", "caption", 0.0, "generated", 0)
REQUEST = Request(methods=("infonce",), datasets=("toy",), kind="real", settings={"recipe.epochs": ("1",)})


def test_pairs_as_they_come_and_no_truth(build) -> None:
    data = build([2, 3])
    index = make_index(data, "official", REAL)
    assert np.array_equal(index.pairs, data.pairs("official", "train"))
    assert known_mismatches(data, index) is None
    assert realised(data, index).mismatched is None
    assert summarise(data, index).noisy_images is None
    assert realised(data, make_index(data, "official", NoiseSpec("none"))).mismatched == 0


def test_a_rate_contradicts_it(build, data_root: Path) -> None:
    with pytest.raises(UsageError, match="as they come"):
        make_index(build([2, 2]), "official", dataclasses.replace(REAL, rate=0.4))
    with pytest.raises(UsageError, match="contradict"):
        resolve(dataclasses.replace(REQUEST, rates=(0.4,)), data_root)
    with pytest.raises(UsageError, match="never imported"):
        import_index(build([2, 2]), "official", Path("x.csv"), kind="real")


def test_data_that_come_noisy_default_to_it(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = dataclasses.replace(DATASETS.load("toy"), natural_noise=True)
    load = DATASETS.load
    monkeypatch.setattr(DATASETS, "load", lambda name: card if name == "toy" else load(name))
    request = dataclasses.replace(REQUEST, kind="shuffle")
    assert resolve(request, data_root)[0].noise == REAL
    assert resolve(dataclasses.replace(request, kind="none"), data_root)[0].noise.kind == "none"


def test_a_run_makes_no_claim_about_its_pairs(data_root: Path, tmp_path: Path) -> None:
    spec = resolve(REQUEST, data_root)[0]
    result = execute(spec, Options(data_root, tmp_path, "cpu"))
    assert result["noise"]["mismatched"] is None
    assert result["detection"] == {}
    history = (tmp_path / spec.hash / "history.jsonl").read_text().splitlines()
    assert all("detection" not in json.loads(line)["pairs"] for line in history)
    table = build_tables([result])[0]
    assert "real noise" in table.title
    assert any("no truth is known" in note for note in table.notes)
