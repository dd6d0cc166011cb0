"""Paired differences: by hand, by brute force, and what the script refuses."""

from __future__ import annotations

import importlib.util
import math
import random
import statistics
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def paired() -> ModuleType:
    spec = importlib.util.spec_from_file_location("paired_script", ROOT / "benchmarks" / "paired.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(method: str, seed: int, mr: float, rate: float = 0.6) -> dict[str, object]:
    return {"spec": {"method": method, "variant": "full", "seed": seed, "backbone": "b", "weights": "w", "tuning": "t",
                     "noise": {"kind": "shuffle", "rate": rate}}, "test": {"best": {"mr": mr}}}  # fmt: skip


def test_interval_of_five_pairs_by_hand(paired: ModuleType) -> None:
    mean, half = paired.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3
    assert half == pytest.approx(2.776445 * math.sqrt(2.5) / math.sqrt(5), rel=1e-6)


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says(paired: ModuleType) -> None:
    draw = random.Random(0)
    hits = 0
    for _ in range(1000):
        mean, half = paired.interval([draw.gauss(1.0, 2.0) for _ in range(5)])
        hits += abs(mean - 1.0) <= half
    assert 0.93 < hits / 1000 < 0.97


def test_pairs_are_made_by_seed_not_by_order(paired: ModuleType) -> None:
    base = {0: 10.0, 1: 20.0, 2: 30.0}
    runs = [run("a", s, m + d) for (s, m), d in zip(reversed(base.items()), (1.0, 2.0, 3.0), strict=True)]
    runs += [run("b", s, m) for s, m in base.items()]
    ((rate, method, mean, of_base, difference, verdict, n),) = paired.rows_of(paired.test_mr(runs), "b")
    assert (rate, method, n, of_base) == ("0.6", "a", "3", "20.00")
    assert difference.startswith("+2.00 ± ") and verdict == "no difference shown"
    assert float(mean) == pytest.approx(20 + statistics.fmean((1, 2, 3)))


def test_seeds_that_one_side_lacks_are_left_out(paired: ModuleType) -> None:
    runs = [run("a", s, 5.0 + s) for s in range(5)] + [run("b", s, 1.0 + s) for s in (1, 2, 9)]
    ((*_, difference, verdict, n),) = paired.rows_of(paired.test_mr(runs), "b")
    assert (difference, verdict, n) == ("+4.00 ± 0.00", "higher", "2")


def test_two_runs_for_one_cell_are_refused(paired: ModuleType) -> None:
    with pytest.raises(SystemExit, match="two runs of a"):
        paired.test_mr([run("a", 0, 1.0), run("a", 0, 2.0)])
