"""``rsbench published``, and published numbers in ``rsbench table``."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from rsbench.cli.app import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "report"))
from synthetic_results import result_of, spec_of, write


@pytest.fixture
def folder(tmp_path):
    runs = [result_of(spec_of("rrsitr", 0.4, s, backbone="lite"), 20.0 + s) for s in (0, 1)]
    return write(tmp_path / "results", *runs, *(result_of(spec_of("srem", 0.4, s), 18.0 + s) for s in (0, 1)))


def call(capsys, *words):
    assert main([str(w) for w in words]) == 0
    return capsys.readouterr().out


def test_browse_narrows_by_every_field(capsys):
    words = ["--paper", "srem", "--table", "1", "--dataset", "flickr30k", "--noise", "0.40", "--method", "srem,ncr"]
    (table,) = json.loads(call(capsys, "published", *words, "--json"))
    assert [(r["method"]["text"], r["rsum"]["text"]) for r in table["rows"]] == [("ncr", "467.1"), ("srem", "495.4")]
    assert call(capsys, "published", "--noise", "real").count("noise real") == 4


def test_everything_is_browsed_in_every_format(capsys, tmp_path):
    assert len(json.loads(call(capsys, "published", "--json"))) == 18
    assert len(list(csv.DictReader(io.StringIO(call(capsys, "published", "--format", "csv"))))) == 485
    assert call(capsys, "published", "--format", "html").count("<table>") == 18
    latex = call(capsys, "published", "--format", "latex")
    assert latex.count("\\toprule") - latex.count("(continued)") == 18
    assert "### rdb-table1" in call(capsys, "published", "--format", "markdown")
    assert call(capsys, "published", "--paper", "rrsitr", "-o", tmp_path / "t.txt") == ""
    assert "±" in (tmp_path / "t.txt").read_text(encoding="utf-8")
    assert "±" not in call(capsys, "published", "--paper", "rrsitr", "--no-std")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["published", "--paper", "rsitr"], "unknown published paper 'rsitr'; did you mean rrsitr"),
        (["published", "--table", "9"], "unknown published table '9'; known: 1, 2, 3, 4"),
        (["published", "--dataset", "rsitmb"], "did you mean rsitmd"),
        (["published", "--noise", "0.3"], "unknown published noise '0.3'"),
        (["published", "--noise", "much"], "--noise 'much': give rates such as 0.4, or real"),
        (["published", "--method", "srme"], "did you mean srem"),
        (["published", "--paper", "rdb", "--noise", "0.4"], "no published row has noise 0.4 here; there is 0"),
        (["published", "--json", "--format", "csv"], "exclude each other"),
        (["table", "F", "--published", "--wide"], "--published and --wide exclude each other"),
        (["table", "F", "--published", "--validation"], "published numbers are test numbers"),
        (["table", "F", "--benchmark", "rrsitr-table2", "--published"], "drop --published"),
        (["table", "F", "--benchmark", "rrsitr-table2", "--sort", "method"], "the printed order stays"),
        (["table", "F", "--benchmark", "rrsitr-table2", "--rivals"], "a table with gaps marks no best"),
        (["table", "F", "--benchmark", "rrsitr-tabel2"], "did you mean rrsitr-table2"),
        (["table", "F", "--benchmark", "rrsitr-table2", "--noise", "0.3"], "it has noise rates 0.2, 0.4, 0.6, 0.8"),
        (["table", "F", "--benchmark", "rrsitr-table2", "--pool", "dataset"], "would mix test sets"),
        (["table", "F", "--benchmark", "rrsitr-table2", "--dataset", "rsicb"], "did you mean rsicd"),
    ],
)
def test_bad_input_is_one_line(capsys, folder, words, says):
    assert main([str(folder) if w == "F" else w for w in words]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error


def test_published_numbers_beside_ours(capsys, folder):
    (table,) = json.loads(call(capsys, "table", folder, "--published", "--json"))
    rows = {r["method"]["text"]: r for r in table["rows"]}
    assert rows["rrsitr"]["difference"]["text"] == "-12.01"
    assert rows["rrsitr"]["differs_in"]["text"] == "backbone, recipe, seeds"
    assert rows["srem"]["published_mr"]["text"] == "—"


def test_our_runs_as_a_published_table(capsys, folder):
    (table,) = json.loads(call(capsys, "table", folder, "--benchmark", "rrsitr-table2", "--json"))
    assert len(table["rows"]) == 44 and table["title"].startswith("ours as rrsitr-table2: RRSITR (CVPR 2026)")
    assert [r["mr"]["text"] for r in table["rows"] if r["mr"]["text"] != "—"] == ["20.50 ± 0.71"]
    (table,) = json.loads(call(capsys, "table", folder, "--benchmark", "rrsitr-table2", "--noise", "0.4", "--json"))
    assert len(table["rows"]) == 11
    (table,) = json.loads(call(capsys, "table", folder, "--benchmark", "rrsitr-table2", "--dataset", "toy", "--json"))
    assert "not as published: dataset toy" in table["notes"] and {r["mr"]["text"] for r in table["rows"]} == {"—"}


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "csv", "html"])
def test_deviations_are_a_switch(capsys, folder, form):
    assert "0.71" in call(capsys, "table", folder, "--format", form) or form == "csv"
    assert "0.71" not in call(capsys, "table", folder, "--format", form, "--no-std")


def test_an_empty_folder_is_one_line(capsys, tmp_path):
    for words in (["--published"], ["--benchmark", "rrsitr-table2"]):
        assert main(["table", str(tmp_path), *words]) == 2
        assert "no result.json below" in capsys.readouterr().err


def test_only_failed_runs_leave_gaps_and_their_names(capsys, tmp_path):
    write(tmp_path, result_of(spec_of("rrsitr", 0.4, 0), status="failed", error="out of luck"))
    (table,) = json.loads(call(capsys, "table", tmp_path, "--benchmark", "rrsitr-table2", "--json"))
    assert {r["mr"]["text"] for r in table["rows"]} == {"—"}
    assert any("1 failed run(s) left out: rrsitr 0.4 seed 0" in n for n in table["notes"])
