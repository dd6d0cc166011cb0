"""``rsbench noise`` as typed."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from rsbench.cli.noise import noise
from rsbench.data.card import DatasetCard
from rsbench.errors import NoiseError, RsbenchError, UsageError

CARD = DatasetCard("unit", "Unit", "m:f", 1, ("official",), "toy", "heads")


@pytest.fixture
def rsbench(build, tmp_path, monkeypatch):
    """Run the command on a small dataset; gives stdout, raises its errors."""
    app = typer.Typer()
    app.command()(noise)
    monkeypatch.setattr("rsbench.data.lifecycle.open_dataset", lambda name, root, progress: build([5] * 20))
    monkeypatch.setattr("rsbench.registry.DATASETS", type("Cards", (), {"load": staticmethod(lambda name: CARD)}))

    def call(*words: str) -> str:
        result = CliRunner().invoke(app, ["unit", "--root", str(tmp_path), *map(str, words)])
        if isinstance(result.exception, RsbenchError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


def test_plain_lines_when_piped(rsbench) -> None:
    lines = dict(line.split("\t") for line in rsbench("--rate", "0.4").splitlines())
    assert (lines["kind"], lines["unit"], lines["rate"], lines["source"]) == ("shuffle", "caption", "0.4", "generated")
    assert lines["pairs"] == "100"
    assert len(lines["sha256"]) == 64
    assert 0.2 < float(lines["realised mismatched"]) <= 0.4
    assert sum(int(lines[f"images with {k} mismatched"]) for k in range(6)) == 20


def test_json_import_export_and_reuse(rsbench, tmp_path) -> None:
    made = json.loads(
        rsbench("--rate", 0.5, "--unit", "image", "--export", tmp_path / "i.npy", "--form", "per-image", "--json")
    )
    assert made["form"] == "per-image"
    assert np.load(tmp_path / "i.npy").shape == (20,)
    kept = json.loads(rsbench("--import", tmp_path / "i.npy", "--name", "rcl", "--json"))
    used = json.loads(rsbench("--source", "file:rcl", "--json"))
    assert made["sha256"] == kept["sha256"] == used["sha256"]
    assert (kept["source"], kept["unit"], kept["rate"]) == ("file:rcl", "image", made["realised"]["moved"])
    assert "seed" not in used


def test_a_terminal_gets_a_table(rsbench, monkeypatch) -> None:
    import io

    from rich.console import Console

    screen = io.StringIO()
    monkeypatch.setattr("rsbench.cli.noise.console", Console(file=screen, force_terminal=True, width=60))
    rsbench("--rate", 0.2)
    assert "images with mismatched text" in screen.getvalue()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no noise rate given; type for example --rate 0.4"),
        (("--rate", "1"), r"noise rate 1 is outside \[0, 1\)"),
        (("--rate", "0.4", "--name", "x"), "--name keeps an imported list; add --import FILE"),
        (("--rate", "0.4", "--form", "csv"), "--form is the form of the exported file; add --export FILE"),
        (("--import", "x.npy", "--rate", "0.4"), "--rate cannot go with --import"),
        (("--source", "file:x", "--unit", "image"), "cannot go with --source file:x"),
        (("--rate", "0.4", "--source", "official"), "no official noise list is known for 'unit'"),
    ],
)
def test_flags_that_contradict_each_other(rsbench, words, message) -> None:
    with pytest.raises(UsageError, match=message):
        rsbench(*words)


def test_a_bad_import_stores_nothing(rsbench, tmp_path) -> None:
    np.save(tmp_path / "bad.npy", np.zeros(3, dtype=int))
    with pytest.raises(NoiseError, match="has 3 entries"):
        rsbench("--import", tmp_path / "bad.npy", "--name", "bad")
    assert not (tmp_path / "noise").exists()


def test_importing_the_command_loads_neither_numpy_nor_torch() -> None:
    code = "import sys, rsbench.cli.noise; sys.exit(bool({'numpy', 'torch', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
