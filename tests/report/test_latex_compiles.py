"""Tables through a real TeX engine: they compile as they are, whatever the names, and stay on the page."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from synthetic_results import result_of, spec_of

from rsbench.report import latex
from rsbench.report.build import build_tables
from rsbench.report.published import beside, published_tables
from rsbench.report.table import Cell, Column, Row, Table, without_std
from rsbench.results.published import load_published

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex: apt-get install texlive-latex-base"),
]

HOSTILE = "<script> & \\ _ % | # $x$ {a} ~ ^ \" ' ` [b] *c -- --- ?` <<>> \\end{tabular} \\input{x} %"
LETTERS = "".join(chr(c) for c in range(0x20, 0x250)) + "∑αβ漢•†…“”½"


def compiled(tables, folder) -> str:
    """The log of pdfLaTeX on a page with the tables."""
    flushed = latex.render(tables).replace(r"\end{table*}", r"\end{table*}\clearpage")  # LaTeX holds few floats back
    (folder / "tables.tex").write_text(flushed, encoding="utf-8")
    page = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\\input{tables}\\end{document}"
    (folder / "page.tex").write_text(page, encoding="utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "page.tex"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, errors="replace", timeout=300)
    assert done.returncode == 0, done.stdout[-2000:]
    return (folder / "page.log").read_text(encoding="utf-8", errors="replace")


def test_every_kind_of_table(results, tmp_path):
    ours = [*results, *(result_of(spec_of("pir", 0, s), 20.0 + s) for s in (0, 1))]
    tables = [*beside(build_tables(ours), ours), *build_tables(ours, wide=True), *published_tables(load_published())]
    log = compiled([*tables, *map(without_std, tables)], tmp_path)
    assert "Overfull \\hbox" not in log, "wide tables are shrunk to the line"
    assert "Float too large" not in log, "tall tables are cut"
    assert "Missing character" not in log


def test_hostile_names_are_printed(tmp_path):
    columns = (Column("m", HOSTILE, HOSTILE), Column("d", "[d]", "", True))
    number = Cell("-1.50 ± 0.20", -1.5, 0.2, 2, best=True)
    names = (HOSTILE, "[1] x", "*x", LETTERS[:200], LETTERS[200:400], LETTERS[400:])
    rows = tuple(Row((Cell(name), number), str(at // 2)) for at, name in enumerate(names))
    log = compiled([Table(HOSTILE, columns, rows, (HOSTILE, "[n]", "*n"))], tmp_path)
    assert "Missing character" not in log
