"""The commands of the pages "On Ray" and "On SLURM" do what they say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def commands(page: str) -> list[str]:
    """The rsbench lines of a page that need nothing but this machine (blocks marked bash)."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    return [line for block in blocks for line in block.splitlines() if line.startswith("rsbench ")]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_the_commands_of_the_page_run(page, module, data_root, tmp_path):
    pytest.importorskip(module)
    found = commands(page)
    assert found
    for line in found:
        words = [sys.executable, "-m", "rsbench", *shlex.split(line)[1:]]
        env = {**os.environ, "RSBENCH_DATA": str(data_root), "PYTHONPATH": str(DOCS.parent)}
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    results = list((tmp_path / "results").glob("*/result.json"))
    assert len(results) == 2
    assert not (tmp_path / "results" / ".slurm").exists()


@pytest.mark.parametrize(("page", "settings"), [("ray", "RaySettings"), ("slurm", "SlurmSettings")])
def test_every_setting_is_on_its_page_with_its_default(page, settings):
    import dataclasses

    from rsbench.experiment.launch import cards

    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    rows = [row.split("|") for row in text.splitlines() if row.startswith("| `")]
    told = {key: value for row in rows for key, value in zip(_cells(row[1]), _cells(row[3]) * 9, strict=False)}
    wanted = {f.name: f.default for f in dataclasses.fields(getattr(cards, settings))}
    assert told == {k: "empty" if v == "" else f"{v:g}" if isinstance(v, float) else str(v) for k, v in wanted.items()}


def _cells(cell: str) -> list[str]:
    return [word.strip(" `") for word in cell.split(",")]
