"""Estimates from past runs, against sums done by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsbench.experiment.estimate import Past, longest_first, read_past, wall_seconds
from rsbench.experiment.plan import make_plan
from rsbench.experiment.spec import RunSpec
from rsbench.noise.index import NoiseSpec
from rsbench.training.recipe import Recipe


def spec(method: str = "rcl", variant: str = "full", epochs: int = 15, dataset: str = "toy", seed: int = 0) -> RunSpec:
    return RunSpec(dataset, "s", NoiseSpec(), "toy", "heads", "w", method, variant, Recipe(epochs=epochs), seed)


def result(of: RunSpec, seconds: Any, status: str = "done") -> dict[str, Any]:
    return {"status": status, "spec": of.as_dict(), "time": {"total": seconds}}


def test_the_most_alike_runs_count() -> None:
    past = Past(
        [
            *(result(spec(seed=i), s) for i, s in enumerate((1.0, 2.0, 30.0))),
            result(spec(epochs=30), 100.0),
            result(spec(variant="other"), 200.0),
            result(spec(dataset="rsicd"), 999.0),
            result(spec(), 0.1, "failed"),
            result(spec(), None),
            {"status": "done", "spec": spec().as_dict()},
        ]
    )
    assert past.seconds(spec(seed=9)) == 2.0
    assert past.seconds(spec(epochs=30)) == 100.0
    assert past.seconds(spec(epochs=7)) == 30.0, "median of all five of this method on toy"
    assert past.seconds(spec(method="srem")) is None


def test_unreadable_results_are_left_out(tmp_path: Path) -> None:
    for name, text in {"a": "{", "b": "[]", "c": "{}", "d": json.dumps(result(spec(), 4.0))}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text)
    assert read_past(tmp_path).seconds(spec()) == 4.0
    assert read_past(tmp_path / "absent").seconds(spec()) is None


def test_long_and_unknown_runs_start_first(tmp_path: Path) -> None:
    short, long, unknown = spec(), spec(method="srem"), spec(method="vse")
    past = Past([result(short, 1.0), result(long, 9.0)])
    order = longest_first(make_plan([short, long, unknown], tmp_path), past)
    assert [j.spec.method for j in order] == ["vse", "srem", "rcl"]


@pytest.mark.parametrize(("seconds", "slots", "wall"), [([], 2, 0), ([5, 1, 1, 1], 2, 5), ([3, 3, 2, 2, 2], 2, 7)])
def test_wall_time(seconds: list[float], slots: int, wall: float) -> None:
    assert wall_seconds(seconds, slots) == wall


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(1, 4))
def test_wall_time_lies_between_its_bounds(seconds: list[int], slots: int) -> None:
    wall = wall_seconds(seconds, slots)
    least = max(max(seconds), sum(seconds) / slots)
    assert least <= wall <= sum(seconds) / slots + max(seconds)
    assert wall_seconds(seconds, 1) == sum(seconds)
