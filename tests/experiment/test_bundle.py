"""A bundle holds what an appendix needs, and the same results give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rsbench.cli.app import main
from rsbench.data.lifecycle import open_dataset
from rsbench.errors import ResultError
from rsbench.experiment.bundle import make_bundle, write_bundle
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute


@pytest.fixture(scope="module")
def results(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on clean and noisy pairs of the toy set, one epoch each."""
    out = tmp_path_factory.mktemp("results")
    asked = Request(("infonce", "vse"), ("toy",), rates=(0.0, 0.4), settings={"recipe.epochs": ("1",)})
    for spec in resolve(asked, data_root):
        execute(spec, Options(data_root, out, "cpu"))
    return out


@pytest.fixture
def copy(results: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(results, tmp_path / "copy"))


def rewrite(folder: Path, which: int, **changes: object) -> Path:
    """Change a result; the runs in order of their hashes."""
    file = sorted(folder.glob("*/result.json"))[which]
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return file


def specs(folder: Path) -> dict[str, dict]:
    return {p.parent.name: json.loads(p.read_text()) for p in folder.glob("*/spec.json")}


def test_everything_is_inside_and_as_it_was_written(results, data_root, tmp_path):
    made = make_bundle([results], data_root)
    write_bundle(made, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
        inside = {n: archive.read(n) for n in names}
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names == sorted(names)
    runs = {f"runs/{run}/{part}" for run in specs(results) for part in ("spec.json", "result.json", "history.jsonl")}
    noise = {n for n in names if n.startswith("noise/")}
    tables = {f"tables/tables.{end}" for end in ("md", "csv", "tex")}
    assert set(names) == runs | noise | tables | {"README.md", "SHA256SUMS", "versions.json"}
    for name in runs:
        assert inside[name] == (results / name.removeprefix("runs/")).read_bytes()
    for line in inside["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(inside[name]).hexdigest() == digest
    assert len(inside["SHA256SUMS"].splitlines()) == len(names) - 1
    assert inside["tables/tables.md"].decode().count("| infonce |") == 2
    assert json.loads(inside["versions.json"])[0]["runs"] == 4
    assert b"/" + str(tmp_path).encode()[1:] not in inside["README.md"], "no path of this machine"


def test_the_noise_lists_are_those_that_the_runs_were_shown(results, data_root):
    (noise,) = make_bundle([results], data_root).noise
    pairs = np.load(io.BytesIO(noise.content), allow_pickle=False)
    wanted = {s["noise_sha256"] for s in specs(results).values() if s["noise"]["rate"] == 0.4}
    assert wanted == {hashlib.sha256(pairs.astype("<i8").tobytes()).hexdigest()}
    data = open_dataset("toy", data_root)
    assert 0.35 < (data.caption_image[pairs[:, 1]] != pairs[:, 0]).mean() < 0.41


def test_equal_results_give_equal_bytes(results, copy, data_root, tmp_path):
    for name, folder in (("a", results), ("b", copy)):
        write_bundle(make_bundle([folder], data_root), tmp_path / f"{name}.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    rewrite(copy, 0, warnings=["changed"])
    write_bundle(make_bundle([copy], data_root), tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() != (tmp_path / "b.zip").read_bytes()


def test_a_run_found_twice_is_inside_once_and_failed_ones_are_counted(results, copy, data_root):
    both = make_bundle([results, copy], data_root)
    assert both.runs == 4 and both.files == make_bundle([results], data_root).files
    failed = rewrite(copy, 1, status="failed", error="out of luck")
    made = make_bundle([copy], data_root)
    assert (made.runs, made.failed) == (3, 1)
    assert not any(failed.parent.name in n for n in made.files)
    assert "Failed runs that were left out: 1." in made.files["README.md"].decode()
    mended = make_bundle([copy, results], data_root)
    assert (
        mended.files[f"runs/{failed.parent.name}/result.json"]
        == (results / failed.parent.name / "result.json").read_bytes()
    )


def test_a_list_that_cannot_be_made_is_said(results, copy, data_root, tmp_path, capsys):
    for file in copy.glob("*/result.json"):
        data = json.loads(file.read_text())
        if data["spec"]["noise"]["rate"]:
            data["spec"]["noise_sha256"] = "0" * 64
            file.write_text(json.dumps(data))
    assert main(["bundle", str(copy), "-o", str(tmp_path / "a.zip"), "--root", str(data_root)]) == 0
    told = capsys.readouterr()
    assert "noise list 0000000000000000 is not included: the data here give another list" in told.err
    assert "4 runs, 0 of 1 noise lists" in told.out
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert "NOT INCLUDED" in archive.read("README.md").decode()
        assert not any(n.startswith("noise/") for n in archive.namelist())


def test_data_that_are_not_here_leave_the_list_out(results, copy, data_root):
    for file in copy.glob("*/result.json"):
        data = json.loads(file.read_text())
        data["spec"]["dataset"] = "rsitmd"
        file.write_text(json.dumps(data))
    (noise,) = make_bundle([copy], data_root).noise
    assert noise.content is None and "rsitmd" in noise.reason


def test_bad_input(results, tmp_path, capsys):
    assert main(["bundle", str(tmp_path / "none"), "-o", str(tmp_path / "a.zip")]) == 2
    for output in (tmp_path / "a.tar", tmp_path / "no" / "a.zip", tmp_path):
        assert main(["bundle", str(results), "-o", str(output)]) == 2
        assert "appendix.zip" in capsys.readouterr().err.replace("\n", " ")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "result.json").write_text("{")
    assert main(["bundle", str(tmp_path / "bad"), "-o", str(tmp_path / "a.zip")]) == 2
    assert not (tmp_path / "a.zip").exists()


def test_nothing_finished(copy, data_root):
    for at in range(4):
        rewrite(copy, at, status="failed")
    with pytest.raises(ResultError, match="none of the 4 runs"):
        make_bundle([copy], data_root)
