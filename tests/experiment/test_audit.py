"""The ranking of an audit: by hand, and end to end on toy with injected noise."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from rsbench.cli.app import main
from rsbench.errors import ResultError
from rsbench.experiment.audit import percentiles, precision_at, rank_pairs, seed_percentiles

NAN = float("nan")
QUICK = ["--set", "recipe.epochs=2", "--set", "recipe.validate_every=2", "--jobs", "1"]


def naive_percentile(values: list[float], at: int) -> float:
    """Mean over all orders of equal scores, counted pair by pair."""
    if values[at] != values[at]:
        return NAN
    seen = [v for v in values if v == v]
    below = sum(v < values[at] for v in seen)
    equal = sum(v == values[at] for v in seen) - 1
    return (below + equal / 2) / max(1, len(seen) - 1)


@pytest.mark.parametrize("values", [[3, 1, 2], [1, 1, 1, 0], [NAN, 5, 2, NAN, 5, 9], [4], [NAN, 7]])
def test_percentiles_are_mid_ranks(values):
    wanted = [naive_percentile(values, i) for i in range(len(values))]
    np.testing.assert_allclose(percentiles(values), wanted, atol=1e-12)


def test_seeds_are_joined_by_hand():
    found = rank_pairs(np.array([[0.01, 0.5, 1.0, NAN, 0.04], [0.03, 0.3, NAN, NAN, 0.2]]))
    np.testing.assert_allclose(found.mean, [0.02, 0.4, 1.0, NAN, 0.12])
    np.testing.assert_allclose(found.std, [0.02 / 2**0.5, 0.2 / 2**0.5, NAN, NAN, 0.16 / 2**0.5])
    np.testing.assert_allclose(found.agreement, [1, 0, 0, 0, 0.5])
    assert found.order.tolist() == [0, 4, 1, 2, 3], "a pair that no seed scored comes last"
    x, y = np.array([0.01, 0.5, 0.04]), np.array([0.03, 0.3, 0.2])
    x, y = x - x.mean(), y - y.mean()
    assert found.correlation == pytest.approx((x * y).sum() / ((x**2).sum() * (y**2).sum()) ** 0.5)
    assert found.votes is None


def test_equal_means_are_ordered_by_agreement_then_by_id():
    found = rank_pairs(np.array([[0.04, 0.5, 0.25, 0.25], [0.46, 0.0, 0.25, 0.25]]))
    assert found.order.tolist() == [0, 1, 2, 3]
    one = rank_pairs(np.array([[0.25, 0.25, 0.02]]))
    assert one.order.tolist() == [2, 0, 1]
    assert np.isnan(one.std).all() and np.isnan(one.correlation)


def test_votes_count_the_seeds_of_each_part():
    divisions = [np.array([0, 2, -1], np.int8), np.array([0, 1, -1], np.int8)]
    votes = rank_pairs(np.zeros((2, 3)), divisions).votes
    assert votes is not None
    assert votes.tolist() == [[2, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_a_pair_that_an_epoch_skips_keeps_its_earlier_place():
    epochs = {0: [1.0, 2.0, 3.0, NAN], 1: None, 2: [NAN, 5.0, 4.0, NAN]}
    fake = SimpleNamespace(
        epochs=(0, 1, 2),
        index=SimpleNamespace(pairs=np.zeros((4, 2))),
        read=lambda epoch, name: None if epochs[epoch] is None else np.array(epochs[epoch], np.float32),
        folder=SimpleNamespace(path="x"),
    )
    np.testing.assert_allclose(seed_percentiles(fake, 2), [0, 1, 0, NAN])
    np.testing.assert_allclose(seed_percentiles(fake, 0), [0, 0.5, 1, NAN])
    fake.epochs = (1,)
    with pytest.raises(ResultError, match="no clean scores"):
        seed_percentiles(fake, 1)


def test_precision_counts_the_head_of_the_ranking():
    truth = np.array([False, True, True, False])
    assert precision_at(np.array([1, 0, 2, 3]), truth, 1) == 1
    assert precision_at(np.array([1, 0, 2, 3]), truth, 2) == 0.5


def read(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_injected_noise_is_found_and_a_second_call_trains_nothing(tmp_path, data_root, capsys, monkeypatch):
    words = ["audit", "toy", "--method", "rcl", "--seeds", "2", "--noise", "0.2", "--out", str(tmp_path), *QUICK]
    assert main([*words, "--root", str(data_root)]) == 0
    shown = capsys.readouterr().out
    assert "precision@100: " in shown
    rows = read(tmp_path / "audit.csv")
    assert [int(r["rank"]) for r in rows] == list(range(1, 10_001))
    assert sorted(int(r["pair"]) for r in rows) == list(range(10_000))
    means = [float(r["mean_percentile"]) for r in rows if r["mean_percentile"]]
    assert means == sorted(means)
    found = [int(r["mismatched"]) for r in rows]
    assert sum(found) == pytest.approx(2000, abs=10)
    assert sum(found[:500]) > 400, "chance is 100"
    assert rows[0]["image"].endswith(".png") and float(rows[0]["agreement"]) == 1
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count('class="card ') == 48
    assert json.loads((tmp_path / "audit.json").read_text())["pairs"] == 10_000

    monkeypatch.setattr("rsbench.experiment.launch.local.run_job", None)
    before = (tmp_path / "audit.csv").read_bytes()
    assert main([*words, "--root", str(data_root), "--top", "5"]) == 0
    assert "2 of 2 runs are kept" in capsys.readouterr().out
    assert (tmp_path / "audit.csv").read_bytes() == before
    assert (tmp_path / "index.html").read_text(encoding="utf-8").count('class="card ') == 5


def test_data_as_they_come_have_no_truth_and_get_votes(tmp_path, data_root, capsys):
    words = ["audit", "toy", "--method", "srem", "--seeds", "1", "--set", "method.warmup_epochs=1", "--epoch", "best"]
    assert main([*words, "--out", str(tmp_path), "--root", str(data_root), *QUICK]) == 0
    done = capsys.readouterr()
    assert "precision" not in done.out and "one seed shows no agreement" in done.err
    rows = read(tmp_path / "audit.csv")
    assert "mismatched" not in rows[0]
    assert {sum(int(r[f"votes_{p}"]) for p in ("clean", "ambiguous", "noisy")) for r in rows} <= {0, 1}
    result = json.loads(next((tmp_path / "runs").glob("*/result.json")).read_text())
    assert result["spec"]["noise"]["rate"] == 0 and "test" not in result


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("toyy --method rcl", "unknown dataset 'toyy'; did you mean toy"),
        ("toy --method rcll", "unknown method 'rcll'; did you mean rcl"),
        ("toy --method rcl,srem", "--method 'rcl,srem': an audit takes exactly one"),
        ("nwpu --method rcl", "dataset 'nwpu' is not prepared"),
        ("toy --method rcl --seeds 0", "at least one run seed"),
        ("toy --method rcl --noise 1.5", "--noise 1.5 is outside [0, 1)"),
        ("toy --method rcl --top 0", "--top 0"),
        ("toy --method rcl --epoch first", "--epoch 'first' is unknown; use last or best"),
        ("toy --method rcl --set recipe.lr=1,2", "an audit takes one value"),
        ("toy", "Missing option '--method'"),
    ],
)
def test_bad_input_is_one_line(words, says, tmp_path, data_root, capsys):
    assert main(["audit", *words.split(), "--out", str(tmp_path), "--root", str(data_root)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and says in lines[0]
    assert not (tmp_path / "audit.csv").exists()
