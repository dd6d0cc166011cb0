"""A run keeps the ranks that its test figures were counted from, and nothing else about it changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rsbench.cli.app import main
from rsbench.data.lifecycle import open_dataset
from rsbench.evaluation.ranks import Ranks
from rsbench.evaluation.retrieval import metrics
from rsbench.experiment.evaluate import trained_method
from rsbench.results.ranks import RANKS, ranks_files, read_ranks
from rsbench.results.store import RunFolder
from rsbench.training import scoring

QUICK = ["--dataset", "toy", "--noise", "0.8", "--method", "infonce", "--set", "recipe.epochs=2", "--jobs", "1"]


@pytest.fixture(scope="module")
def finished(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    out = tmp_path_factory.mktemp("ranks")
    assert main(["run", *QUICK, "--root", str(data_root), "--out", str(out)]) == 0
    return RunFolder(out, next(out.glob("*/result.json")).parent.name)


def test_ranks_give_the_figures_of_the_best_epoch(finished: RunFolder, data_root: Path) -> None:
    kept, result = read_ranks(finished.path / RANKS), finished.read_result()
    assert kept.i2t.dtype == kept.t2i.dtype == np.int32
    data = open_dataset("toy", data_root)
    pairs = data.pairs(result["spec"]["split"], "test")
    images = data.part(result["spec"]["split"], "test")
    assert (len(kept.i2t), len(kept.t2i)) == (len(images), len(pairs))
    owner = torch.from_numpy(np.searchsorted(np.sort(images), pairs[:, 0]))
    counted = metrics(Ranks(torch.from_numpy(kept.i2t).long(), torch.from_numpy(kept.t2i).long()), owner)
    assert counted == result["test"]["best"]
    assert kept.mr == pytest.approx(result["test"]["best"]["mr"], abs=1e-9)


def test_ranks_are_in_the_order_of_the_test_part(finished: RunFolder, data_root: Path) -> None:
    """Counted anew, query by query, from the kept weights and plain comparisons."""
    spec, method = trained_method(finished.path)
    data = open_dataset("toy", data_root)
    inputs = method.backbone.inputs(data, data_root / "features", tokens=False)
    part = scoring.score_part(method, inputs, data, spec.split, "test", torch.device("cpu"))
    scores, kept = part.block(0, part.n_images), read_ranks(finished.path / RANKS)
    for caption in range(0, scores.shape[1], 37):
        image = int(part.caption_image[caption])
        column, own = scores[:, caption], scores[image, caption]
        assert kept.t2i[caption] == int((column > own).sum()) + int((column[:image] == own).sum())


def test_the_test_part_is_scored_as_often_as_before(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rsbench.experiment import run

    scored = []
    plain = run.score_part
    monkeypatch.setattr(run, "score_part", lambda *a: scored.append(a[4]) or plain(*a))
    assert main(["run", *QUICK, "--root", str(data_root), "--out", str(tmp_path)]) == 0
    best = json.loads(next(tmp_path.glob("*/result.json")).read_text())["best_epoch"]
    assert scored.count("test") == (1 if best == 1 else 2)


def test_a_finished_run_without_ranks_stays_as_it_is(finished: RunFolder, data_root: Path, tmp_path: Path) -> None:
    result = finished.result.read_bytes()
    (finished.path / RANKS).rename(tmp_path / "moved")
    assert ranks_files([finished.path.parent]) == {}
    words = ["run", *QUICK, "--root", str(data_root), "--out", str(finished.path.parent)]
    assert main(words) == 0
    assert finished.result.read_bytes() == result
    assert not (finished.path / RANKS).exists(), "done is done"
    assert main([*words, "--overwrite", "always", "--no-weights"]) == 0
    assert (finished.path / RANKS).read_bytes() == (tmp_path / "moved").read_bytes(), "the same run, the same ranks"
    again = json.loads(finished.result.read_text())
    assert again["test"] == json.loads(result)["test"]
    assert "ranks" not in json.dumps(list(again)), "the result itself has no new key"
