"""Fill the tables of README.md and docs/ from the committed results.

    python docs/fill_tables.py            (or: make tables)

A table stands between ``<!-- rsbench table WORDS -->`` and ``<!-- end -->``; it is what that command prints with
``--format markdown``, with titles where there are several tables.
``<!-- rsbench compare WORDS -->`` and ``<!-- rsbench cost WORDS -->`` likewise. The tests check that every table is
what its command prints now.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from rsbench.report.build import build_tables
from rsbench.report.comparison import compare
from rsbench.report.comparison_table import comparison_tables
from rsbench.report.cost import cost_tables
from rsbench.report.markdown import render
from rsbench.report.printed_cost import printed_costs
from rsbench.report.select import select
from rsbench.results.frame import load_results

ROOT = Path(__file__).parents[1]
MARKED = re.compile(
    r"(<!-- (?P<command>rsbench (?:table|compare|cost)) (?P<words>[^>]*?) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)

FILTERS = {
    "dataset": "datasets",
    "method": "methods",
    "noise": "noise",
    "noise-kind": "kinds",
    "noise-unit": "units",
}
"""Flags that take a comma list, and what ``select`` calls them."""


def parsed(words: str) -> tuple[list[Path], dict[str, str]]:
    """Folders and options of a command."""
    items, folders, options = iter(shlex.split(words)), [], {}
    for item in items:
        if item.startswith("--"):
            options[item[2:]] = next(items) if item[2:] in (*FILTERS, "against") else ""
        else:
            folders.append(ROOT / item)
    return folders, options


def filters_of(options: dict[str, str]) -> dict[str, list[str]]:
    """Comma filters of a command as ``select`` takes them."""
    return {name: options[flag].split(",") for flag, name in FILTERS.items() if flag in options}


def body(text: str, options: dict[str, str]) -> str:
    """Markdown without headings: titles in bold where there are several tables, notes where they are wanted."""
    several = text.count("### ") > 1
    lines = [f"**{line[4:]}**" if line.startswith("### ") else line for line in text.splitlines()]
    kept = ("|", "-" if "notes" in options else "|", "**" if several else "|")
    return "\n".join(line for line in lines if line.startswith(kept) or not line).strip() + "\n"


def table_of(words: str) -> str:
    """Markdown of ``rsbench table WORDS``: folders, comma filters, ``--wide``, ``--validation``, ``--notes``."""
    folders, options = parsed(words)
    results = select(load_results(folders), **filters_of(options), validation="validation" in options or None)
    return body(render(build_tables(results, wide="wide" in options)), options)


def comparison_of(words: str) -> str:
    """Markdown of ``rsbench compare WORDS``: folders, ``--against``, comma filters, ``--notes``.

    Without intervals over queries: the ranks are not committed, and the page must be the same without them.
    """
    folders, options = parsed(words)
    base, filters = options["against"], filters_of(options)
    if "methods" in filters:
        filters["methods"].append(base)
    found = compare(select(load_results(folders), **filters), [], base)
    return body(render(comparison_tables(found)), options)


def costs_of(words: str) -> str:
    """Markdown of ``rsbench cost WORDS``: folders, ``--against``, comma filters, ``--published``, ``--notes``."""
    folders, options = parsed(words)
    results, base = select(load_results(folders), **filters_of(options)), options.get("against")
    printed = printed_costs(base) if "published" in options else []
    return body(render([*cost_tables(results, base), *printed]), options)


def filled(text: str) -> str:
    """A document with every marked table made anew."""
    makers = {"rsbench table": table_of, "rsbench compare": comparison_of, "rsbench cost": costs_of}
    return MARKED.sub(lambda m: f"{m[1]}\n{makers[m['command']](m['words'])}\n{m['end']}", text)


def documents() -> list[Path]:
    """The README and every page of the docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


if __name__ == "__main__":
    for page in documents():
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
