"""Costs are what the runs recorded, compared within one machine and one setting alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from synthetic_results import result_of, spec_of, write

from rsbench.cli.app import main
from rsbench.errors import ResultError, UnknownNameError
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute
from rsbench.methods.infonce import InfoNce
from rsbench.report.cost import cost_tables
from rsbench.report.printed_cost import printed_costs
from rsbench.training.cost import Laps, forget_peak, peak_mb

MACHINE = {"device": "cpu", "processor": "one", "threads": 1, "versions": {"torch": "2"}, "rsbench": "0.1.0"}


def costly(method="srem", seed=0, laps=((1.0, 3.0, 0.5), (3.0, 5.0, None)), memory=400.0, rate=0.4, **machine):
    """A run of two epochs: (filter, train, validate) seconds of each."""
    epochs = [
        {k: v for k, v in zip(("filter", "train", "validate"), lap, strict=True) if v is not None} for lap in laps
    ]
    total = sum(sum(e.values()) for e in epochs) + 1
    return result_of(
        spec_of(method, rate, seed), epochs=2, best_epoch=1,
        time={"train": total, "evaluate": 9.0, "test": 2.0, "total": 20.0, "epochs": epochs},
        method={"networks": 1, "trainable": 1000 if method == "infonce" else 1500},
        environment=MACHINE | {"memory_peak_mb": memory} | machine,
    )  # fmt: skip


def cells(table, row=0):
    return {c.key: cell for c, cell in zip(table.columns, table.rows[row].cells, strict=True)}


def test_means_over_epochs_and_ratios_to_the_base():
    base = [costly("infonce", s, ((0.0, 1.0 + s, 0.5), (0.0, 1.0 + s, None)), 200.0) for s in (0, 1)]
    (table,) = cost_tables([costly(), *base])
    infonce, srem = cells(table, 0), cells(table, 1)
    assert [infonce["method"].text, srem["method"].text] == ["infonce", "srem"], "the base comes first"
    assert (srem["filter"].mean, srem["train"].mean) == (2.0, 4.0)
    assert srem["epoch"].mean == (1 + 3 + 0.5 + 3 + 5 + 1) / 2
    assert (infonce["train"].mean, infonce["train"].n) == (1.5, 2)
    assert infonce["train"].std == pytest.approx(0.5**0.5)
    assert srem["train_ratio"].mean == pytest.approx(4.0 / 1.5)
    assert (srem["memory_ratio"].text, srem["trainable_ratio"].text) == ("2.00", "1.50")
    assert (infonce["trainable"].text, infonce["train_ratio"].text) == ("1000", "1.00")
    assert "filter_ratio" not in srem, "a base without filtration has no ratio"


@pytest.mark.parametrize(("best_epoch", "once"), [(1, 2.0), (0, 1.0)])
def test_the_test_part_is_counted_once(best_epoch, once):
    (table,) = cost_tables([costly() | {"best_epoch": best_epoch}])
    assert cells(table)["test"].mean == once


def test_machines_threads_and_batches_are_kept_apart_and_said():
    other = costly("infonce", processor="two")
    tables = cost_tables([costly("infonce"), costly(), other, costly(threads=2)])
    assert len(tables) == 3
    assert [len(t.rows) for t in tables] == [2, 1, 1]
    assert all(any("3 machines" in n for n in t.notes) for t in tables)
    alone = next(t for t in tables if "2 threads" in t.title)
    assert "train_ratio" not in cells(alone), "a base on another processor is no base"
    assert any("infonce was not run here" in n for n in alone.notes)


def test_ratios_stay_within_a_noise_rate():
    (table,) = cost_tables([costly("infonce", rate=0.4), costly("srem", rate=0.4), costly("srem", rate=0.8)])
    by_rate = {cells(table, i)["noise"].text: cells(table, i)["train_ratio"].text for i in (1, 2)}
    assert by_rate == {"0.4": "1.00", "0.8": "—"}


def test_two_settings_of_the_base_give_no_ratio():
    twin = result_of(spec_of("infonce", 0.4, params={"tau": 0.1}), epochs=2, time={"train": 4.0}, environment=MACHINE)
    (table,) = cost_tables([costly("infonce"), twin, costly()])
    assert any("several settings" in n for n in table.notes)
    assert {cells(table, i)["epoch_ratio"].text for i in range(3)} == {"—"}
    assert sorted(cells(table, i)["settings"].text for i in range(3)) == ["", "tau=0.05", "tau=0.1"]


def test_older_runs_have_whole_epochs_alone():
    old = result_of(spec_of(), epochs=5, time={"train": 10.0, "evaluate": 4.0, "total": 15.0}, environment=MACHINE)
    (table,) = cost_tables([old])
    found = cells(table)
    assert "train" not in found and "memory" not in found
    assert found["epoch"].mean == 2.0 and found["test"].mean == 2.0
    assert any("not recorded apart" in n for n in table.notes)
    mixed = result_of(spec_of(seed=1), epochs=5, time={"train": 10.0}, environment=MACHINE)
    (table,) = cost_tables([costly(), mixed])
    assert cells(table)["train"].text == "only 1 of 2", "a mean over some would pass for all"


def test_bad_input(tmp_path, capsys):
    with pytest.raises(ResultError, match="none of the 1 runs"):
        cost_tables([costly() | {"status": "failed"}])
    with pytest.raises(UnknownNameError, match="base method"):
        cost_tables([costly()], "sram")
    write(tmp_path, costly(), costly("infonce"))
    for form in ("text", "markdown", "latex", "csv"):
        assert main(["cost", str(tmp_path), "--format", form]) == 0
        assert "infonce" in capsys.readouterr().out
    assert main(["cost", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["rows"]
    assert main(["cost", str(tmp_path), "--against", "sram"]) == 2
    assert main(["cost", str(tmp_path / "none")]) == 2


def test_what_a_run_records(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    passes = []

    def filtering(self, context):
        passes.append(context.score(lambda e, b: torch.zeros(len(b))))
        time.sleep(0.2)
        return ()

    default = InfoNce.epoch_phases
    monkeypatch.setattr(InfoNce, "epoch_phases", lambda self, c: filtering(self, c) or default(self, c))
    settings = {"recipe.epochs": ("3",), "recipe.validate_every": ("2",)}
    (spec,) = resolve(Request(methods=("infonce",), datasets=("toy",), settings=settings), data_root)
    result = execute(spec, Options(data_root, tmp_path, "cpu"))
    laps = result["time"]["epochs"]
    assert len(passes) == len(laps) == 3
    assert all(lap["filter"] >= 0.2 and lap["train"] > 0 for lap in laps)
    assert ["validate" in lap for lap in laps] == [False, True, True]
    assert sum(sum(lap.values()) for lap in laps) <= result["time"]["train"] + 0.01
    assert 0 < result["time"]["test"] <= result["time"]["evaluate"] + 0.001
    assert 100 < result["environment"]["memory_peak_mb"] < 100_000
    assert "seconds" not in (tmp_path / spec.hash / "history.jsonl").read_text(), "the history repeats to the bit"


def test_laps_are_taken_once():
    laps = Laps(torch.device("cpu"))
    with laps.part("filter"):
        time.sleep(0.01)
    assert 0.01 <= laps.take()["filter"] < 5
    assert laps.take() == {}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be forgotten on Linux alone")
def test_the_peak_of_an_earlier_run_is_forgotten():
    device = torch.device("cpu")
    large = torch.ones(60_000_000)
    high = peak_mb(device)
    del large
    forget_peak(device)
    assert peak_mb(device) < high - 150


def test_printed_costs_are_those_of_srem_table_4():
    (table,) = printed_costs()
    rows = {c[0].text: [x.text for x in c[1:]] for c in (r.cells for r in table.rows)}
    assert [c.key for c in table.columns] == ["method", "filter", "train", "memory", "train_ratio", "memory_ratio"]
    assert rows["srem"] == ["0", "1506", "13022", "1.00", "1.00"]
    assert rows["bicro"] == ["358", "3093", "14543", f"{3093 / 1506:.2f}", f"{14543 / 13022:.2f}"]
    (other,) = printed_costs("bicro")
    assert cells(other, 2)["filter_ratio"].text == "0.00", "bicro has a filtration to compare with"
    assert printed_costs("infonce") == [table], "a base that was not printed leaves the paper's own"


def test_printed_costs_below_ours(tmp_path, capsys):
    write(tmp_path, costly())
    assert main(["cost", str(tmp_path), "--against", "srem", "--published", "--json"]) == 0
    ours, printed = json.loads(capsys.readouterr().out)
    assert "one, 1 thread" in ours["title"] and printed["title"].startswith("printed cost on cc152k: SREM")
