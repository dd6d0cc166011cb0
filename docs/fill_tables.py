"""Fill the tables of README.md and docs/ from the committed results.

    python docs/fill_tables.py            (or: make tables)

A table stands between ``<!-- rsbench table WORDS -->`` and ``<!-- end -->``; it is what that command prints with
``--format markdown``, without the title. The tests check that every table is what its command prints now.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from rsbench.report.build import build_tables
from rsbench.report.markdown import render
from rsbench.report.select import select
from rsbench.results.frame import load_results

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r"(<!-- rsbench table (?P<words>[^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def table_of(words: str) -> str:
    """Markdown of ``rsbench table WORDS``: folders, ``--wide``, ``--validation``, ``--method A,B`` and ``--notes``."""
    items, folders, options = iter(shlex.split(words)), [], {}
    for item in items:
        if item.startswith("--"):
            options[item[2:]] = next(items) if item == "--method" else ""
        else:
            folders.append(ROOT / item)
    results = select(
        load_results(folders),
        methods=options["method"].split(",") if "method" in options else (),
        validation="validation" in options or None,
    )
    text = render(build_tables(results, wide="wide" in options))
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    if "notes" not in options:
        lines = [line for line in lines if line.startswith("|") or not line]
    return "\n".join(lines).strip() + "\n"


def filled(text: str) -> str:
    """A document with every marked table made anew."""
    return MARKED.sub(lambda m: f"{m[1]}\n{table_of(m['words'])}\n{m[3]}", text)


def documents() -> list[Path]:
    """The README and every page of the docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


if __name__ == "__main__":
    for page in documents():
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
