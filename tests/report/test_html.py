"""The HTML page: its text, its structure, and that nothing in a name becomes markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from synthetic_results import result_of, spec_of

from rsbench.report import html
from rsbench.report.build import build_tables
from rsbench.report.formats import render
from rsbench.report.table import Cell, Column, Row, Table, without_std

HOSTILE = "<script>alert(1)</script> & \"q\" 'a' \\x _y_ 5% a|b </td></table>\x1b[31m"
VOID = {"meta"}


class Reader(HTMLParser):
    """Checks that tags nest and collects those that are there."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


@pytest.fixture
def small() -> Table:
    columns = (Column("method", "Method"), Column("i2t_r1", "R@1", "Image-to-Text", True), Column("mr", "mR", "", True))
    rows = (
        Row((Cell("srem"), Cell("9.00", 9.0, None, 1), Cell("2.00 ± 0.50", 2.0, 0.5, 3, best=True)), "0"),
        Row((Cell("vse"), Cell("—"), Cell("1.00 ± 0.25", 1.0, 0.25, 3, second=True)), "0"),
        Row((Cell("srem"), Cell("8.00", 8.0, None, 1), Cell("NaN in 1 of 2")), "0.4"),
    )
    return Table("toy & co", columns, rows, ("mean ± is said", "other"))


def test_fragment(small):
    assert html.fragment([small]).splitlines() == [
        '<section class="rsbench">',
        "<table>",
        "<caption>toy &amp; co</caption>",
        "<thead>",
        '<tr><th scope="col" rowspan="2">Method</th><th scope="colgroup" colspan="1">Image-to-Text</th>'
        '<th scope="col" rowspan="2" class="number">mR</th></tr>',
        '<tr><th scope="col" class="number">R@1</th></tr>',
        "</thead>",
        "<tbody>",
        '<tr><td>srem</td><td class="number">9.00</td>'
        '<td class="number"><strong>2.00 <span class="std">± 0.50</span></strong></td></tr>',
        '<tr><td>vse</td><td class="number">—</td>'
        '<td class="number"><u>1.00 <span class="std">± 0.25</span></u></td></tr>',
        "</tbody>",
        "<tbody>",
        '<tr><td>srem</td><td class="number">8.00</td><td class="number">NaN in 1 of 2</td></tr>',
        "</tbody>",
        "</table>",
        "<ul>",
        "<li>mean ± is said</li>",
        "<li>other</li>",
        "</ul>",
        "</section>",
    ]


def test_every_line_has_as_many_cells_as_columns(results):
    (table,) = build_tables(results)
    page = render([table], "html")
    read(page)
    for line in re.findall(r"<tr><td.*</tr>", page):
        assert line.count("<td") == len(table.columns)
    above, below = re.findall(r"<tr><th.*</tr>", page)
    assert sum(int(n) for n in re.findall(r'colspan="(\d+)"', above)) + above.count("rowspan") == len(table.columns)
    assert below.count("<th") == 6


def test_a_page_stands_alone_and_follows_the_reader(small):
    page = render([small, small], "html")
    assert page.startswith("<!doctype html>\n") and page.count("<style>") == 1
    assert not re.search(r"https?:|//|<script|<link|<img|url\(|@import", page), "nothing is asked from a host"
    assert "color-scheme: light dark" in page and "@media print" in page
    assert not re.search(r"#[0-9a-f]{3,6}\b|rgb", page), "nothing is told by colour"
    assert read(page).said.count("toy & co") == 2


def test_hostile_strings_stay_text():
    table = Table(HOSTILE, (Column("method", HOSTILE, HOSTILE),), (Row((Cell(HOSTILE),)),), (HOSTILE,))
    page = read(html.render([table]))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.said.count("<script>alert(1)</script> & \"q\" 'a' \\x _y_ 5% a|b </td></table>") == 6
    assert "\x1b" not in page.said


def test_a_method_called_like_markup_is_text_in_every_place():
    (table,) = build_tables([result_of(spec_of("<script>x</script>"), 20.0)])
    assert "<script" not in html.render([table]) and "&lt;script&gt;x" in html.render([table])


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "csv", "html", "json"])
def test_deviations_can_be_left_out_everywhere(results, form):
    tables = [without_std(t) for t in build_tables(results)]
    text = render(tables, form)
    assert "22.50" in text or "22.5" in text
    assert "±" not in text and r"\pm" not in text and "0.71" not in text and "0.707" not in text
    assert "figures are means" in text or form == "csv"


def test_a_name_with_a_plus_minus_is_no_number():
    table = Table("t", (Column("method", "Method"),), (Row((Cell("a ± b"),)),))
    assert "<td>a ± b</td>" in html.render([table])
    assert without_std(table).rows == table.rows
    assert r"a $\pm$ b \\" in render([table], "latex")
