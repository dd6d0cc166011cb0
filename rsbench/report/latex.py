r"""Tables in LaTeX with booktabs, shrunk to the line where they are wider: paste them, or ``\input`` them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from rsbench.report.table import Cell, Table

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",  # the straight one needs another font encoding than LaTeX's own
    "`": r"\textasciigrave{}",
    "[": "{[}",  # after a line break a bracket or a star would be its argument
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "\u2212": "$-$",  # minus
    "—": "--",
    "\0": "{}",
}
_TABLE = str.maketrans(_ESCAPES)
TALL = 32
"""Rows that fit a page, each with a rule, with heading and a few notes; a float cannot break across pages."""
CONTINUED = " (continued)"
MANY = 8
"""Notes that fit under a table; more of them follow it as running text, which can break."""
_LETTERS = {chr(c) for c in range(0xC0, 0x100)} - {chr(c) for c in (0xD0, 0xD7, 0xDE, 0xF0, 0xF7, 0xFE)}
"""Beyond ASCII: what LaTeX's own font encoding has; not eth, thorn and signs of arithmetic."""


def escape(text: str) -> str:
    """Text that LaTeX prints as it is, on one line; characters pdfLaTeX does not know become ``?``."""
    plain = "".join(c for c in " ".join(text.split()) if c.isprintable())
    apart = re.sub("-(?=-)", "-\0", plain)  # two hyphens are no dash
    return "".join(map(_known, apart)).translate(_TABLE)


def _known(char: str) -> str:
    if char.isascii() or char in _LETTERS or char in _ESCAPES:
        return char
    base = unicodedata.normalize("NFKD", char)[0]
    return base if base.isascii() and base.isalpha() else "?"


def _cell(cell: Cell) -> str:
    mean, std = cell.split()
    text = _signed(cell, escape(mean)) + (rf"{{\tiny$\,\pm\,${escape(std)}}}" if std else "")
    if cell.best:
        return rf"\textbf{{{text}}}"
    return rf"\underline{{{text}}}" if cell.second else text


def _signed(cell: Cell, text: str) -> str:
    """A minus in the place of the hyphen before a number."""
    return f"$-${text[1:]}" if cell.mean is not None and text.startswith("-") else text


def render(tables: Sequence[Table]) -> str:
    """All tables as ``table`` environments; the notes are a footnote-sized paragraph."""
    head = "% needs \\usepackage{booktabs,graphicx} in the preamble\n"
    return head + "\n".join(_render(part) for t in tables for part in _parts(t))


def _parts(table: Table) -> list[Table]:
    """A table that is higher than a page as several, cut between blocks where that can be; notes come last."""
    cuts, start = [], 0
    while len(table.rows) - start > TALL:
        borders = [at for at in range(start + 1, start + TALL + 1) if table.rows[at].block != table.rows[at - 1].block]
        cuts.append(borders[-1] if borders else start + TALL)
        start = cuts[-1]
    ends = [*cuts, len(table.rows)]
    return [
        replace(
            table,
            title=table.title + (CONTINUED if at else ""),
            rows=table.rows[begin:end],
            notes=table.notes if end == len(table.rows) else (),
        )
        for at, (begin, end) in enumerate(zip([0, *cuts], ends, strict=True))
    ]


def _heads(table: Table) -> list[str]:
    """The line of group headings with its rules (none without groups), then the column headings."""
    lines, at, rules, spans = [], 1, [], []
    for name, width in table.groups():
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}" if name else "")
        if name:
            rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
        at += width
    if rules:
        lines += [" & ".join(spans) + r" \\", " ".join(rules)]
    return [*lines, " & ".join(escape(c.title) for c in table.columns) + r" \\"]


def _render(table: Table) -> str:
    form = "".join("r" if c.number else "l" for c in table.columns)
    blocks = ["\n".join(" & ".join(map(_cell, row.cells)) + r" \\" for row in block) for block in table.blocks()]
    notes = r" \\ ".join(escape(n) for n in table.notes)
    below = [r"\par\smallskip", rf"\parbox{{\linewidth}}{{\scriptsize {notes}}}"]
    after = [rf"{{\scriptsize\noindent {escape(table.title.removesuffix(CONTINUED))}: {notes}\par}}"]
    running = len(table.notes) > MANY
    return "\n".join(
        [
            r"\begin{table*}[t]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape(table.title)}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{form}}}",
            r"\toprule",
            *_heads(table),
            r"\midrule",
            "\n\\midrule\n".join(blocks),
            r"\bottomrule",
            r"\end{tabular}}",
            *([] if running or not notes else below),
            r"\end{table*}",
            *(after if running else []),
            "",
        ]
    )
