"""`rsbench compare`, `rsbench rank` and `rsbench table --rivals` on stored results."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rsbench.cli.app import main
from rsbench.evaluation import significance

RATES = (0.0, 0.4)


def stored(folder: Path, method: str, mrs: list[float], rate: float, variant: str = "full") -> None:
    """Finished runs of one row, as far as tables read them."""
    for seed, mr in enumerate(mrs):
        spec = {
            "dataset": "toy", "split": "official", "backbone": "toy", "tuning": "heads", "weights": "bundled",
            "method": method, "variant": variant, "recipe": {"name": "common", "selection": "val_mr"}, "seed": seed,
            "noise": {"kind": "shuffle" if rate else "none", "unit": "caption", "rate": rate, "source": "generated"},
        }  # fmt: skip
        name = f"{method}-{variant}-{rate}-{seed}"
        result = {"schema": 1, "hash": name, "status": "done", "spec": spec, "test": {"best": {"mr": mr}}}
        (folder / name).mkdir(parents=True)
        (folder / name / "result.json").write_text(json.dumps(result))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for rate in RATES:
        stored(tmp_path / "r", "srem", [20, 21, 23 - rate], rate)
        stored(tmp_path / "r", "srem", [19, 21, 20 - rate], rate, "u+w")
        stored(tmp_path / "r", "rcl", [22, 23.5, 24.2], rate)
    return tmp_path / "r"


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    assert main([str(w) for w in words]) == code
    found = capsys.readouterr()
    return found.out if code == 0 else found.err


def test_two_methods_at_every_rate(results, capsys):
    text = said(capsys, "compare", "rcl", "srem:u+w", results)
    assert "difference to srem:u+w" in text
    rows = [line.split() for line in text.splitlines() if " rcl " in line]
    assert [r[0] for r in rows] == ["0", "0.4"]
    assert "+3.23" in rows[0] and "+3.37" in rows[1], "the mean of 3, 2.5, 4.2 and of 3, 2.5, 4.6"
    assert "smallest p possible: 3 pairs 0.25" in text


def test_many_methods_against_one_and_filters(results, capsys):
    (table,) = json.loads(said(capsys, "compare", results, "--against", "rcl", "--json"))
    assert [r["method"]["text"] for r in table["rows"]] == ["srem", "srem:u+w"] * 2
    assert {r["p"]["mean"] for r in table["rows"]} == {0.25}
    assert {r["p_holm"]["mean"] for r in table["rows"]} == {1.0}
    words = ["--method", "srem:u+w", "--noise", "0.4", "--dataset", "toy", "--backbone", "toy", "--recipe", "common"]
    text = said(capsys, "compare", results, "--against", "rcl", *words, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["noise"], row["method"], row["verdict"]) == ("0.4", "srem:u+w", "lower")
    assert float(row["difference"]) == pytest.approx(-(3 + 2.5 + 4.6) / 3)


def test_markdown_into_a_file(results, tmp_path, capsys):
    out = tmp_path / "c.md"
    said(capsys, "compare", "rcl", "srem", results, "--format", "markdown", "-o", out)
    assert "| 0.4 | rcl |" in out.read_text()


def test_rank_prints_table_and_diagram(results, tmp_path, capsys):
    text = said(capsys, "rank", results, "--plot", tmp_path / "cd.svg")
    lines = text.splitlines()
    assert lines[0] == "average ranks of 3 methods by mR over 6 blocks"
    assert [line.split()[:3] for line in lines[4:7]] == [
        ["1", "rcl", "1.00"], ["2", "srem", "2.17"], ["3", "srem:u+w", "2.83"]
    ]  # fmt: skip
    assert lines[-1].endswith("no difference shown") and "CD" in text
    assert (tmp_path / "cd.svg").read_text().startswith("<?xml")
    (table,) = json.loads(said(capsys, "rank", results, "--json", "--method", "srem"))
    assert [r["method"]["text"] for r in table["rows"]] == ["srem", "srem:u+w"]


def test_table_marks_rivals(results, capsys):
    plain, marked = (said(capsys, "table", results, "--wide", *words) for words in ([], ["--rivals"]))
    assert "rivals" not in plain and "rivals within noise" in marked
    assert "*23.23" in marked and "_" not in marked.split("\n\n")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("compare", "compare got 0 of two methods"),
        ("compare rcl", "compare got 1 of two methods"),
        ("compare rcl sren {r}", "unknown method in these results 'sren'; did you mean srem"),
        ("compare rcl rcl {r}", "compared with itself"),
        ("compare rcl srem {r} --method vse", "--method belongs to --against"),
        ("compare srem {r} --against rcl", "methods are chosen with --method srem"),
        ("compare {r} --against rlc", "unknown method in these results 'rlc'; did you mean rcl"),
        ("compare {r} --against rcl --noise 0.3", "no result has noise rate '0.3'"),
        ("compare rcl srem {r}/absent", "there is no folder"),
        ("compare rcl srem {r} --json --format csv", "exclude each other"),
        ("compare rcl srem {r} -o {r}/absent/c.txt", "there is no folder"),
        ("rank {r} --method rcl", "at least two methods, found: rcl"),
        ("rank {r} --plot cd.bmp", "ends in .png or .svg"),
        ("rank {r} --plot {r}/absent/cd.png", "there is no folder"),
    ],
)
def test_bad_input_is_one_line(results, capsys, words, message):
    text = said(capsys, *words.format(r=results).split(), code=2)
    assert message in text
    assert text.startswith("error:") and text.count("\n") == 1


@pytest.mark.parametrize("words", ["compare rcl srem {r}", "rank {r}", "table {r} --rivals"])
def test_without_scipy_the_extra_is_named(results, capsys, monkeypatch, words):
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(significance.importlib, "import_module", absent)
    significance.t_quantile.cache_clear()
    assert "pip install 'rsbench[stats]'" in said(capsys, *words.format(r=results).split(), code=2)


@pytest.mark.parametrize("words", ["compare --help", "rank --help", "compare rcl srem {r}", "rank {r}"])
def test_no_torch_and_no_scipy_before_it_is_needed(results, words):
    script = (
        "import sys; from rsbench.cli.app import main; code = main(sys.argv[1:]); "
        "print(sorted({'torch', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    call = [sys.executable, "-c", script, *words.format(r=results).split()]
    done = subprocess.run(call, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == ("[]" if "--help" in words else "['scipy']")
