"""Published tables by name, as typed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from rsbench.cli.app import main

TOY = ["--dataset", "toy", "--backbone", "toy", "--tuning", "heads", "--recipe", "common"]
QUICK = ["--set", "recipe.epochs=1", "--set", "recipe.batch_size=256"]


def planned(capsys, *words: str) -> dict:
    assert main(["plan", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_plan_lists_runs_and_rows_that_cannot_run(capsys, data_root, tmp_path):
    words = ["--benchmark", "srem-table1", *TOY, "--noise", "0.4", "--out", str(tmp_path), "--root", str(data_root)]
    facts = planned(capsys, *words)
    assert facts["rows"] == 22 and facts["changed"][0] == "dataset toy"
    assert {j["spec"]["method"] for j in facts["jobs"]} == {"rcl", "srem"}
    assert {line["label"] for line in facts["lines"] if not line["reasons"]} == {"RCL", "Ours"}
    assert main(["plan", *words]) == 0
    shown = capsys.readouterr().out
    assert "4 of 22 rows can run here" in shown
    assert "not as published: dataset toy; backbone toy; tuning heads; recipe common" in shown
    assert "method 'imram' is not implemented yet" in shown
    assert not list(tmp_path.iterdir()), "a plan writes nothing"


def test_a_table_runs_and_its_printed_line_is_the_same_table(capsys, data_root, tmp_path):
    words = ["run", "--benchmark", "srem-table1", *TOY, "--noise", "0.4", *QUICK, "--jobs", "1"]
    assert main([*words, "--out", str(tmp_path), "--root", str(data_root)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(list(tmp_path.glob("*/result.json"))) == 2
    line = next(text for text in shown if text.startswith("rsbench run --benchmark srem-table1"))
    facts = planned(capsys, *shlex.split(line)[2:], "--root", str(data_root))
    assert [j["state"] for j in facts["jobs"]] == ["done", "done"]
    assert sorted(j["hash"] for j in facts["jobs"]) == sorted({h for li in facts["lines"] for h in li["runs"]})


def test_nothing_to_run_is_exit_code_two_with_the_reasons(capsys, tmp_path):
    root = ["--root", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert main(["run", "--benchmark", "srem-table3", *root]) == 2
    shown = capsys.readouterr()
    assert "dataset 'cc152k'" in shown.out
    assert "no row of srem-table3 can run here" in shown.err
    assert main(["plan", "--benchmark", "srem-table3", *root]) == 0
    assert "0 runs: none; 0 to do" in capsys.readouterr().out
    assert main(["run", "--benchmark", "srem-table3", "--dry-run", *root]) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--method", "srem"], "--method contradict"),
        (["--noise-kind", "shuffle", "--split", "rrsitr"], "--split, --noise-kind contradict"),
        (["--noise", "0.3"], "it has noise rates"),
        (["--seeds", "9"], "this paper ran 5"),
        (["--backbone", "toi"], "did you mean toy"),
        (["--set", "tau"], "has no '='"),
    ],
)
def test_flags_that_contradict_a_table(words, says, capsys, tmp_path):
    assert main(["plan", "--benchmark", "rrsitr-table1", *words, "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error


def test_an_unknown_table_names_the_nearest(capsys, tmp_path):
    assert main(["plan", "--benchmark", "rsitr-table1", "--root", str(tmp_path)]) == 2
    assert "did you mean rrsitr-table1" in capsys.readouterr().err


def test_a_config_file_may_name_a_table(capsys, data_root, tmp_path):
    path = tmp_path / "table.toml"
    path.write_text(
        'benchmark = "srem-table1"\ndataset = "toy"\nnoise = 0.2\n'
        'backbone = "toy"\ntuning = "heads"\nrecipe = "common"\n'
    )
    facts = planned(capsys, "--config", str(path), "--root", str(data_root), "--out", str(tmp_path))
    assert facts["name"] == "srem-table1" and {j["spec"]["noise"]["rate"] for j in facts["jobs"]} == {0.2}
    path.write_text(path.read_text() + 'method = "srem"\n')
    assert main(["plan", "--config", str(path), "--root", str(data_root)]) == 2
    assert "--method contradict" in capsys.readouterr().err


def test_validation_only_holds_for_a_table(capsys, data_root, tmp_path):
    words = ["--benchmark", "srem-table1", *TOY, "--validation-only", "--out", str(tmp_path), "--root", str(data_root)]
    assert not any(j["spec"]["held_out"] for j in planned(capsys, *words)["jobs"])


def test_tables_are_listed_with_what_can_run(capsys, tmp_path):
    assert main(["list", "benchmarks", "--json", "--root", str(tmp_path)]) == 0
    rows = {r["name"]: r for r in json.loads(capsys.readouterr().out)["benchmarks"]}
    assert len(rows) == 18
    assert rows["rrsitr-table1"]["paper"] == "RRSITR (CVPR 2026)"
    assert rows["rrsitr-table1"]["rates"] == [0.2, 0.4, 0.6, 0.8]
    assert (rows["rdb-table1"]["datasets"], rows["rdb-table1"]["noise"]) == (["rsicd", "rsitmd"], "none")
    assert all((r["rows"], r["runnable"]) == (r["rows"], 0) for r in rows.values())
    assert main(["list", "benchmarks", "--filter", "rdb*", "--root", str(Path(tmp_path))]) == 0
    shown = capsys.readouterr().out
    assert "0 of 31 rows" in shown and "rrsitr" not in shown


def test_a_table_is_described_with_its_remarks(capsys, tmp_path):
    assert main(["describe", "pmpguard-table2", "--json", "--root", str(tmp_path)]) == 0
    facts = json.loads(capsys.readouterr().out)["benchmarks"]
    assert facts["rows"] == 30 and len(facts["cannot_run"]) == 6
    assert any("its recalls give" in mark for mark in facts["marks"])
    assert main(["describe", "rrsitr-tabel4", "--root", str(tmp_path)]) == 2
    assert "did you mean rrsitr-table4" in capsys.readouterr().err
