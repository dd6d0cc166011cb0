"""Fill the tables of README.md and docs/ from the committed results.

    python docs/fill_tables.py            (or: make tables)

A table stands between ``<!-- rsbench table WORDS -->`` and ``<!-- end -->``; it is what that command prints with
``--format markdown``, with titles where there are several tables.
``<!-- benchmarks/paired.py WORDS -->`` holds what that script prints. The tests check that every table is what its
command prints now.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

from rsbench.report.build import build_tables
from rsbench.report.markdown import render
from rsbench.report.select import select
from rsbench.results.frame import load_results

ROOT = Path(__file__).parents[1]
MARKED = re.compile(
    r"(<!-- (?P<command>rsbench table|benchmarks/paired.py) (?P<words>[^>]*?) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)

FILTERS = {
    "dataset": "datasets",
    "method": "methods",
    "noise": "noise",
    "noise-kind": "kinds",
    "noise-unit": "units",
}
"""Flags that take a comma list, and what ``select`` calls them."""


def table_of(words: str) -> str:
    """Markdown of ``rsbench table WORDS``: folders, comma filters, ``--wide``, ``--validation``, ``--notes``."""
    items, folders, options = iter(shlex.split(words)), [], {}
    for item in items:
        if item.startswith("--"):
            options[item[2:]] = next(items) if item[2:] in FILTERS else ""
        else:
            folders.append(ROOT / item)
    filters = {name: options[flag].split(",") for flag, name in FILTERS.items() if flag in options}
    results = select(load_results(folders), **filters, validation="validation" in options or None)
    text = render(build_tables(results, wide="wide" in options))
    several = text.count("### ") > 1
    lines = [f"**{line[4:]}**" if line.startswith("### ") else line for line in text.splitlines()]
    kept = ("|", "-" if "notes" in options else "|", "**" if several else "|")
    return "\n".join(line for line in lines if line.startswith(kept) or not line).strip() + "\n"


def paired_table(words: str) -> str:
    """Markdown of ``benchmarks/paired.py WORDS``."""
    spec = importlib.util.spec_from_file_location("paired", ROOT / "benchmarks" / "paired.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text: str = module.table_of(shlex.split(words), ROOT)
    return text.strip() + "\n"


def filled(text: str) -> str:
    """A document with every marked table made anew."""
    makers = {"rsbench table": table_of, "benchmarks/paired.py": paired_table}
    return MARKED.sub(lambda m: f"{m[1]}\n{makers[m['command']](m['words'])}\n{m['end']}", text)


def documents() -> list[Path]:
    """The README and every page of the docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


if __name__ == "__main__":
    for page in documents():
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
