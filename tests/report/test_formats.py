from __future__ import annotations

import csv
import io
import json
import re

import pytest
from rich.console import Console
from synthetic_results import result_of, spec_of

from rsbench.errors import UnknownNameError
from rsbench.report import latex, markdown
from rsbench.report.build import build_tables
from rsbench.report.formats import FORMATS, render
from rsbench.report.table import Cell, Column, Row, Table
from rsbench.report.text import show

HOSTILE = "a|b_c*d & 50% $x$ #1 {e} \\f ~g^h <i>\nj\x1b[31m"


@pytest.fixture
def small():
    columns = (Column("noise", "Noise", number=True), Column("method", "Method"))
    columns += (Column("i2t_r1", "R@1", "Image-to-Text", True), Column("mr", "mR", "", True))
    rows = (
        Row((Cell("0"), Cell("srem"), Cell("9.00", 9.0, None, 1), Cell("2.00 ± 0.50", 2.0, 0.5, 3, best=True)), "0"),
        Row((Cell("0"), Cell("vse"), Cell("—"), Cell("1.00 ± 0.25", 1.0, 0.25, 3, second=True)), "0"),
        Row((Cell("0.4"), Cell("srem"), Cell("8.00", 8.0, None, 1), Cell("NaN in 1 of 2")), "0.4"),
    )
    return Table("toy & co", columns, rows, ("± is said",))


def test_text(small):
    assert render([small], "text").splitlines() == [
        "toy & co",
        "",
        "  Noise  Method      I2T R@1             mR",
        "-------  --------  ---------  -------------",
        "      0  srem           9.00  *2.00 ± 0.50*",
        "      0  vse               —  _1.00 ± 0.25_",
        "-------  --------  ---------  -------------",
        "    0.4  srem           8.00  NaN in 1 of 2",
        "",
        "  ± is said",
    ]


def test_markdown(small):
    assert render([small], "markdown").splitlines() == [
        "### toy \\& co",
        "",
        "| Noise | Method | I2T R@1 | mR |",
        "| ---: | --- | ---: | ---: |",
        "| 0 | srem | 9.00 | **2.00 ± 0.50** |",
        "| 0 | vse | — | <u>1.00 ± 0.25</u> |",
        "| 0.4 | srem | 8.00 | NaN in 1 of 2 |",
        "",
        "- ± is said",
    ]


def test_latex(small):
    text = render([small], "latex")
    body = text[text.index(r"\begin{tabular}") : text.index(r"\end{tabular}")].splitlines()
    assert body == [
        r"\begin{tabular}{rlrr}",
        r"\toprule",
        r" &  & \multicolumn{1}{c}{Image-to-Text} &  \\",
        r"\cmidrule(lr){3-3}",
        r"Noise & Method & R@1 & mR \\",
        r"\midrule",
        r"0 & srem & 9.00 & \textbf{2.00{\tiny$\,\pm\,$0.50}} \\",
        r"0 & vse & -- & \underline{1.00{\tiny$\,\pm\,$0.25}} \\",
        r"\midrule",
        r"0.4 & srem & 8.00 & NaN in 1 of 2 \\",
        r"\bottomrule",
    ]
    assert r"\caption{toy \& co}" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert "±" not in text


def test_csv_keeps_full_precision(small):
    (first, second, third) = csv.DictReader(io.StringIO(render([small], "csv")))
    assert first == {
        "table": "toy & co", "noise": "0", "method": "srem", "i2t_r1": "9.0", "i2t_r1_std": "",
        "mr": "2.0", "mr_std": "0.5",
    }  # fmt: skip
    assert (second["i2t_r1"], third["mr"], third["mr_std"]) == ("—", "NaN in 1 of 2", "")


def test_json(small):
    (found,) = json.loads(render([small], "json"))
    assert found["rows"][0]["mr"] == {
        "text": "2.00 ± 0.50", "mean": 2.0, "std": 0.5, "n": 3, "best": True, "second": False,
    }  # fmt: skip


def test_hostile_strings_stay_inside_their_cell():
    table = Table(HOSTILE, (Column("method", HOSTILE),), (Row((Cell(HOSTILE),)),), (HOSTILE,))
    rows = [line for line in render([table], "markdown").splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 2 for line in rows)
    assert len(render([table], "text").splitlines()) == 7
    (record,) = csv.DictReader(io.StringIO(render([table], "csv")))
    assert record["method"] == HOSTILE
    assert "\x1b" not in render([table], "text") + render([table], "latex")
    bare = re.sub(r"\\[\\{}$&#%_]|\\text\w+\{\}|\{[][*]\}", "", latex.escape(HOSTILE))
    assert not set(bare) & set("\\{}$&#%_~^<>|\n")


def test_latex_prints_what_pdflatex_does_not_know_as_a_mark():
    assert latex.escape("é ± 漢\x07") == r"é $\pm$ ?"
    assert markdown.escape("[x](y)") == r"\[x\](y)"


def test_a_pipe_gets_plain_text_and_a_terminal_gets_styles(results):
    tables = build_tables(results)
    pipe, terminal = io.StringIO(), io.StringIO()
    show(Console(file=pipe, width=40), tables)
    show(Console(file=terminal, force_terminal=True, width=200, color_system="standard"), tables)
    assert pipe.getvalue() == render(tables, "text")
    assert "\x1b[1m22.50 ± 0.71" in terminal.getvalue()
    assert "\x1b[4m21.50 ± 0.71" in terminal.getvalue()
    assert "*" not in terminal.getvalue().split("dataset rsicd")[0]


@pytest.mark.parametrize("form", [*FORMATS, "json"])
def test_markup_in_names_is_printed_as_it_is(form):
    tables = build_tables([result_of(spec_of("[bold red]x[/]"))])
    assert "bold red" in render(tables, form)
    show(Console(file=io.StringIO(), force_terminal=True), tables)


def test_unknown_format(small):
    with pytest.raises(UnknownNameError, match="did you mean latex"):
        render([small], "latx")


def test_latex_cuts_what_is_higher_than_a_page():
    rows = tuple(Row((Cell(f"row{i}."),), str(i // 15)) for i in range(70))
    text = latex.render([Table("tall", (Column("m", "Method"),), rows, ("the note",))])
    parts = text.split(r"\begin{table*}")[1:]
    assert [p.count("row") for p in parts] == [30, 30, 10], "cut between blocks of 15"
    assert all(f"row{i}." in text for i in range(70))
    assert ["(continued)" in p for p in parts] == [False, True, True]
    assert ["the note" in p for p in parts] == [False, False, True]
    one = tuple(Row((Cell(f"row{i}."),)) for i in range(33))
    assert latex.render([Table("t", (Column("m", "Method"),), one)]).count("(continued)") == 1
