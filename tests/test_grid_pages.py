"""The commands of the pages "Grids" and "On one machine" do what they say."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from rsbench.cli.app import main
from rsbench.experiment.launch.cards import LocalSettings

DOCS = Path(__file__).parents[1] / "docs"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "folder", "runs"), [("grids", "my-grid", 7), ("one-machine", "try", 4)])
def test_the_commands_of_the_page_run(name, folder, runs, data_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # in this process: no workers to start
    for number, text in enumerate(re.findall(r"```toml\n(.*?)```", page(name), re.S)):
        assert number == 0
        (tmp_path / "grid.toml").write_text(text)
    lines = [line for block in re.findall(r"```bash\n(.*?)```", page(name), re.S) for line in block.splitlines()]
    assert len(lines) >= 2 and all(line.startswith("rsbench ") for line in lines)
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, line
    assert len(list((tmp_path / "results" / folder).glob("*/result.json"))) == runs


def test_the_settings_of_the_page_are_those_there_are():
    told = re.findall(r"^\| `(\w+)` \|.*\| (\d+)[^|]*\|$", page("one-machine"), re.M)
    assert [(k, int(v)) for k, v in told] == [(f.name, f.default) for f in dataclasses.fields(LocalSettings)]


def test_the_states_of_the_page_are_those_there_are():
    from rsbench.experiment.plan import IMPOSSIBLE

    told = re.findall(r"^\| `(\w+)` \|", page("grids"), re.M)
    assert told == ["done", "partial", "new", "failed", IMPOSSIBLE]
