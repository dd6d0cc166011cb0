"""``rsbench.load_results``: one row per run, nothing invented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import rsbench
from rsbench.errors import DependencyError, ResultError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "report"))
from synthetic_results import figures, result_of, spec_of, write

pandas = pytest.importorskip("pandas")


@pytest.fixture
def folder(tmp_path):
    runs = [result_of(spec_of("srem", r, s), 20.0 + s, time={"train": 2.0}) for r in (0, 0.4) for s in (0, 1)]
    failed = result_of(spec_of("vse", 0.4, 0), 99.0, status="failed", error="out of luck")
    return write(tmp_path / "results", *runs, failed)


def test_one_row_per_run(folder):
    frame = rsbench.load_results(folder)
    assert len(frame) == 5 and frame["hash"].is_unique
    done = frame[frame.status == "done"]
    means = done.groupby(["method", "noise_rate"])["mr"].agg(["mean", "std"])
    assert means.loc[("srem", 0.4)].tolist() == pytest.approx([20.5, 0.5**0.5])
    first = done[(done.noise_rate == 0.4) & (done.seed == 1)].iloc[0]
    assert (first.i2t_r10, first.last_mr, first.val_mr, first.auroc) == (26.0, 20.0, 21.0, 0.9)
    assert (first.recipe, first.recipe_epochs, first.param_tau, first.train_seconds) == ("common", 15, 0.05, 2.0)
    assert (first.noise_kind, first.noise_seed, first.mismatched, first.networks) == ("shuffle", 42, 0.396, 1)


def test_means_over_folds_have_columns_of_their_own(tmp_path):
    over = {"n": 5, "best": figures(80.0), "last": figures(79.0)}
    write(tmp_path, result_of(spec_of(seed=0), 60.0, folds=over), result_of(spec_of(seed=1), 61.0))
    frame = rsbench.load_results(tmp_path).set_index("seed")
    assert (frame.loc[0, "mr"], frame.loc[0, "folds_mr"], frame.loc[0, "folds_i2t_r1"]) == (60.0, 80.0, 75.0)
    assert pandas.isna(frame.loc[1, "folds_mr"])


def test_what_is_not_there_is_missing_and_never_zero(folder):
    frame = rsbench.load_results(str(folder)).set_index("status")
    failed = frame.loc["failed"]
    assert failed[["mr", "last_mr", "val_mr", "auroc", "best_epoch"]].isna().all(), "a failed run has no figures"
    assert failed.error == "out of luck"
    assert frame.loc["done"].loc[lambda f: f.noise_rate == 0, "auroc"].isna().all()


def test_nan_and_words_stay_missing(tmp_path):
    result = result_of(spec_of(), 20.0)
    result["test"]["best"] |= {"mr": float("nan"), "i2t_r1": "high", "i2t_r5": None}
    frame = rsbench.load_results(write(tmp_path, result))
    assert frame[["mr", "i2t_r1", "i2t_r5"]].isna().all().all() and frame["i2t_r10"].item() == 25.0
    assert frame["mr"].dtype == float


def test_several_paths_and_runs_once(folder):
    assert len(rsbench.load_results([folder, folder])) == 5


def test_errors_are_those_of_the_command_line(tmp_path, monkeypatch):
    with pytest.raises(ResultError, match=r"no result\.json below"):
        rsbench.load_results(tmp_path)
    with pytest.raises(ResultError, match="there is no folder"):
        rsbench.load_results(tmp_path / "absent")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DependencyError, match=r"pip install 'rsbench\[report\]'"):
        rsbench.load_results(tmp_path)


def test_importing_the_package_stays_light():
    code = (
        "import sys, rsbench; assert 'load_results' in dir(rsbench); rsbench.load_results\n"
        "print(sorted({'pandas', 'numpy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'load_result'"):
        rsbench.load_result  # noqa: B018
