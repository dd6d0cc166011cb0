from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import typer
from synthetic_results import figures, result_of, spec_of, write
from typer.testing import CliRunner

from rsbench.cli.app import main
from rsbench.cli.table import table
from rsbench.errors import RsbenchError, UnknownNameError, UsageError
from rsbench.report.build import build_tables
from rsbench.results.frame import load_results

app = typer.Typer()
app.command()(table)


def call(*words):
    outcome = CliRunner().invoke(app, [str(w) for w in words])
    if isinstance(outcome.exception, RsbenchError):
        raise outcome.exception
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def test_every_format(tmp_path, results):
    folder = write(tmp_path / "results", *results)
    for form, sign in (
        ("text", "*22.50 ± 0.71*"),
        ("markdown", "**22.50"),
        ("latex", "\\toprule"),
        ("csv", "table,noise"),
    ):
        assert sign in call(folder, "--format", form)
    assert len(json.loads(call(folder, "--json"))[0]["rows"]) == 4


def test_one_run_on_the_whole_test_part_and_over_folds(tmp_path):
    spec = spec_of(dataset="coco", split="official", backbone="regions")
    over = {"n": 5, "best": figures(80.0), "last": figures(79.0)}
    folder = write(tmp_path, result_of(spec, 60.0, folds=over), result_of(spec_of(), 20.0))
    found = {n: call(folder, *words) for n, words in ((1, []), (5, ["--folds", "5"]))}
    assert "60.00" in found[1] and "80.00" not in found[1]
    assert "80.00" in found[5] and "60.00" not in found[5] and "means over 5 equal folds" in " ".join(found[5].split())
    assert "20.00" in found[1] and "20.00" in found[5], "a dataset without folds stays as it is"
    with pytest.raises(UsageError, match=r"--folds 3: no run was scored over 3 folds; these results have 1, 5\."):
        call(folder, "--folds", "3")
    with pytest.raises(UsageError, match="own test set: drop --folds"):
        call(folder, "--folds", "5", "--benchmark", "srem-table1")


def test_filters_orders_and_output(tmp_path, results):
    folder, out = write(tmp_path / "results", *results), tmp_path / "table.md"
    words = ["--method", "srem", "--noise", "0.4", "--dataset", "rsicd", "--backbone", "lite", "--recipe", "common"]
    assert "wrote" not in call(folder, *words, "--format", "markdown", "--output", out)
    assert "| 0.4 | srem |" in out.read_text(encoding="utf-8")
    assert "infonce" not in out.read_text(encoding="utf-8")
    assert "mR at 0.4" in call(folder, "--wide", "--sort", "method")


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--method", "infonse"], UnknownNameError, "did you mean infonce"),
        (["--dataset", "rsicb"], UnknownNameError, "unknown dataset in these results"),
        (["--noise", "0.3"], UsageError, "no result has noise rate"),
        (["--sort", "best"], UnknownNameError, "unknown order"),
        (["--pool", "dataset"], UsageError, "would mix test sets"),
        (["--json", "--format", "csv"], UsageError, "exclude each other"),
        (["--format", "csv", "-o", "absent/t.csv"], UsageError, "there is no folder 'absent'"),
    ],
)
def test_bad_input(tmp_path, results, words, error, message):
    with pytest.raises(error, match=message):
        call(write(tmp_path / "results", *results), *words)


def test_nothing_heavy_is_imported(tmp_path, results):
    folder = write(tmp_path / "results", *results)
    code = (
        "import sys, typer; from rsbench.cli.table import table; from pathlib import Path\n"
        f"table([Path({str(folder)!r})])\n"
        "print(sorted({'torch', 'pandas', 'transformers', 'timm', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_thousand_runs_make_one_table(tmp_path):
    specs = [spec_of(m, r / 10, s) for m in "abcde" for r in range(10) for s in range(20)]
    write(tmp_path, *(result_of(s, 20.0 + s.seed) for s in specs))
    (found,) = build_tables(load_results([tmp_path]))
    assert len(found.rows) == 50
    assert {row.cells[-1].text for row in found.rows} == {"20"}


def test_searches_on_validation_are_named_and_shown_on_request(tmp_path, capsys):
    write(tmp_path, result_of(spec_of("a", 0.4, 0), 20.0), result_of(spec_of("b", 0.4, 0, held_out=False), 30.0))
    assert main(["table", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "VALIDATION ONLY" not in shown.out
    assert "searches on validation that are not shown: 1 (see them with --validation)" in shown.err
    assert main(["table", str(tmp_path), "--validation"]) == 0
    shown = capsys.readouterr()
    assert "VALIDATION ONLY" in shown.out
    assert "not shown" not in shown.err


def test_curves_are_figures_of_each_table(tmp_path):
    runs = [result_of(spec_of("srem", rate, seed), 30 - 20 * rate + seed) for rate in (0, 0.4, 0.8) for seed in (0, 1)]
    other = [result_of(spec_of("srem", rate, dataset="rsitmd"), 9.0) for rate in (0, 0.4)]
    folder, out = write(tmp_path / "results", *runs, *other), tmp_path / "c.svg"
    said = call(folder, "--curves", out)
    assert said.count("wrote") == 2 and "c-1.svg: rsicd" in said and "c-2.svg: rsitmd" in said
    assert "srem" in (tmp_path / "c-1.svg").read_text(encoding="utf-8")
    call(folder, "--dataset", "rsitmd", "--curves", tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="a curve needs two"):
        call(folder, "--noise", "0.4", "--curves", out)
    with pytest.raises(UsageError, match=r"ends in \.png"):
        call(folder, "--curves", tmp_path / "c.txt")
    with pytest.raises(UsageError, match="drop --published"):
        call(folder, "--published", "--curves", out)
