from __future__ import annotations

import json
from pathlib import Path

import pytest

from rsbench.cli.app import main


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(w) for w in words])
    return code, *capsys.readouterr()


def test_report_in_text(raw, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "sydney", "--root", root, "--source", raw.tar(), "--captions", raw.json(), "--image-size", 8]
    code, out, _ = run(capsys, *words)
    assert code == 0 and out.startswith("Sydney-Captions: packed\n")
    rows = [line.split() for line in out.splitlines()]
    assert ["official", "train", "15", "30", "16", "0", "15"] in rows
    assert ["official", "75.00", "100.00", "100.00"] in rows
    assert "\x1b" not in out and "incomplete:" in out
    assert run(capsys, *words)[1].startswith("Sydney-Captions: packed already")


def test_report_in_json(raw, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del raw.files["port_2.png"]
    words = ["prepare", "ucm", "--root", root, "--source", raw.zip(), "--captions", raw.json(), "--image-size", 8]
    code, _, error = run(capsys, *words)
    assert code == 2 and error.startswith("error: 1 of 20 images are missing") and error.count("\n") == 1
    code, out, _ = run(capsys, *words, "--allow-partial", "--json")
    report = json.loads(out)
    assert code == 0 and report["missing"] == ["port_2.png"] and report["splits"]["official"]["val"]["images"] == 3


def test_refusal_is_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run(capsys, "prepare", "rsicd", "--root", root, "--no-download")
    assert code == 2 and "--source FOLDER_OR_ARCHIVE" in error and error.count("\n") == 1
