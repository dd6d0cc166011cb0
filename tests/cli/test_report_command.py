"""`rsbench report`: what is gathered beside stored results, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rsbench.cli.app import main
from rsbench.experiment import site
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute
from rsbench.experiment.site import method_facts, read_histories, run_folders
from rsbench.report.site import Gallery

FEW = {"recipe.epochs": ("2",)}


@pytest.fixture(scope="module")
def runs(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on toy under noise, one seed, as a user would have them."""
    out = tmp_path_factory.mktemp("results")
    request = Request(("infonce", "srem"), ("toy",), rates=(0.4,), settings=FEW)
    for spec in resolve(request, data_root):
        execute(spec, Options(data_root, out, "cpu"))
    return out


@pytest.fixture
def report(runs, data_root, tmp_path, capsys):
    def call(*words, code=0, results=runs):
        assert main(["report", str(results), "-o", str(tmp_path / "r"), "--root", str(data_root), *words]) == code
        told = capsys.readouterr()
        return tmp_path / "r", " ".join((told.out + told.err).split())

    return call


def test_a_report_of_real_runs(report, runs):
    folder, told = report()
    assert told.startswith("wrote ") and "2 runs of 2 methods" in told
    for name in (p.name for p in runs.iterdir()):
        page = (folder / "runs" / f"{name}.html").read_text(encoding="utf-8")
        assert "pairs.detection.auroc" in page and "<svg" in page
    srem = (folder / "methods" / "srem.html").read_text(encoding="utf-8")
    assert "Readings of unclear points" in srem and "AAAI 2024" in srem and "Pairs of one run" in srem
    assert (folder / "figures" / "srem-1-clean_score.svg").is_file()
    assert not (folder / "galleries").exists()
    assert "data:image/jpeg" not in "".join(p.read_text(encoding="utf-8") for p in folder.rglob("*.html"))


def test_toy_galleries_only_where_asked_for(report):
    folder, told = report("--galleries", "toy")
    made = sorted(p.name for p in (folder / "galleries").iterdir())
    assert made == [f"{m}-toy-{kind}.html" for m in ("infonce", "srem") for kind in ("pairs", "retrieved")]
    for name in made:
        assert "data:image/jpeg" in (folder / "galleries" / name).read_text(encoding="utf-8")
    assert "publish" not in told and "publish" not in (folder / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("whose", "shown"), [("none", False), ("toy", False), ("all", True)])
def test_pictures_of_other_data_are_shown_on_request_and_warned_of(report, runs, tmp_path, monkeypatch, whose, shown):
    other = tmp_path / "results" / "a"
    other.mkdir(parents=True)
    result = json.loads(next(runs.glob("*/result.json")).read_text())
    result["spec"]["dataset"], result["hash"] = "rsicd", "a"
    (other / "result.json").write_text(json.dumps(result))
    (other / "weights.safetensors").write_bytes(b"")
    monkeypatch.setattr(site, "_retrieved", lambda method, *_: Gallery("x", method, "rsicd", "X", "<body>pictures"))
    folder, told = report("--galleries", whose, results=other.parent)
    assert (folder / "galleries" / "x.html").exists() is shown
    assert ("do not publish it" in told) is shown
    assert ("do not publish it" in (folder / "index.html").read_text(encoding="utf-8")) is shown


def test_a_gallery_that_cannot_be_made_is_said(report, runs, tmp_path):
    other = tmp_path / "results" / "b"
    other.mkdir(parents=True)
    first = next(runs.glob("*/result.json")).parent
    for name in ("result.json", "spec.json"):
        (other / name).write_bytes((first / name).read_bytes())
    (other / "weights.safetensors").write_bytes(b"no weights")
    (other / "pairs").mkdir()
    (other / "pairs" / "epoch-000.safetensors").write_bytes(b"no records")
    folder, _ = report("--galleries", "toy", results=other.parent)
    said = "".join(p.read_text(encoding="utf-8") for p in (folder / "methods").iterdir())
    assert said.count("A gallery of toy is left out") == 2 and "Figures of pairs on toy are left out" in said


def test_a_report_twice_and_a_folder_that_holds_something_else(report, tmp_path):
    folder, _ = report()
    report()
    (folder / "mine.txt").write_text("x")
    assert "mine.txt is not ours" in report(code=2)[1]
    assert (folder / "mine.txt").exists()


def test_bad_input_is_one_line(report, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no result.json below" in report(code=2, results=empty)[1]
    assert "there is no folder" in report(code=2, results=tmp_path / "nowhere")[1]
    assert "'sremm' is in none of the results" in report("--against", "sremm", code=2)[1]
    assert "known: infonce, srem" in report("--against", "sremm", code=2)[1]
    assert "--galleries" in report("--galleries", "rsicd", code=2)[1]
    assert "mkdir -p" in report("-o", str(tmp_path / "a" / "b"), code=2)[1]
    assert not (tmp_path / "r").exists()


def test_a_file_that_a_result_names_is_never_run(tmp_path):
    file = tmp_path / "evil.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    facts = method_facts(f"{file}:Evil")
    assert "not registered" in facts.notes[0] and not (tmp_path / "ran").exists()


def test_damaged_histories_are_told_apart(tmp_path):
    for name, text in {"good": '{"epoch": 0}\n', "cut": '{"epoch": 0}\n{"ep', "list": "[1]\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "history.jsonl").write_text(text)
    (tmp_path / "none").mkdir()
    found, damaged = read_histories({p.name: p for p in sorted(tmp_path.iterdir())})
    assert found == {"good": [{"epoch": 0}]} and set(damaged) == {"cut", "list"}


def test_the_finished_copy_of_a_run_gives_the_history(runs, tmp_path):
    result = json.loads(next(runs.glob("*/result.json")).read_text())
    for name, status in (("a", "failed"), ("b", "done"), ("c", "done")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(result | {"status": status}))
    assert run_folders([tmp_path]) == {result["hash"]: tmp_path / "b"}
