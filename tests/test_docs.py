"""What the README and the docs show is what the committed files say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def filler() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fill_tables", ROOT / "docs" / "fill_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_is_what_its_command_prints(filler: ModuleType) -> None:
    marked = 0
    for page in filler.documents():
        text = page.read_text(encoding="utf-8")
        marked += len(filler.MARKED.findall(text))
        assert filler.filled(text) == text, f"{page.name} shows old figures; run: make tables"
    assert marked >= 2, "the README and the docs show tables of committed results"


def test_a_stale_table_is_noticed(filler: ModuleType) -> None:
    text = "<!-- rsbench table results/toy --wide -->\n\n| old |\n\n<!-- end -->"
    assert filler.filled(text) != text
    assert "infonce" in filler.filled(text)


def test_the_page_on_methods_shows_the_example_that_the_tests_run() -> None:
    page = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    example = (ROOT / "docs" / "examples" / "my_method.py").read_text(encoding="utf-8")
    assert f"```python\n{example}```" in page
