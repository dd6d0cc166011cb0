r"""Tables in LaTeX with booktabs: paste them, or ``\input`` them."""

from __future__ import annotations

from collections.abc import Sequence

from rsbench.report.table import PLUS_MINUS, Cell, Table

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
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "—": "--",
}
_TABLE = str.maketrans(_ESCAPES)


def escape(text: str) -> str:
    """Text that LaTeX prints as it is, on one line; characters pdfLaTeX does not know become ``?``."""
    plain = "".join(c for c in " ".join(text.split()) if c.isprintable())
    known = "".join(c if ord(c) < 0x250 or c in _ESCAPES else "?" for c in plain)
    return known.translate(_TABLE)


def _cell(cell: Cell) -> str:
    mean, plus_minus, std = cell.text.partition(PLUS_MINUS)
    text = escape(mean) + (rf"{{\tiny$\,\pm\,${escape(std)}}}" if plus_minus else "")
    if cell.best:
        return rf"\textbf{{{text}}}"
    return rf"\underline{{{text}}}" if cell.second else text


def render(tables: Sequence[Table]) -> str:
    """All tables as ``table`` environments; the notes are LaTeX comments and a footnote-sized paragraph."""
    head = "% needs \\usepackage{booktabs} in the preamble\n"
    return head + "\n".join(_render(t) for t in tables)


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
    return "\n".join(
        [
            r"\begin{table*}[t]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape(table.title)}}}",
            rf"\begin{{tabular}}{{{form}}}",
            r"\toprule",
            *_heads(table),
            r"\midrule",
            "\n\\midrule\n".join(blocks),
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip",
            rf"\parbox{{\linewidth}}{{\scriptsize {notes}}}",
            r"\end{table*}",
            "",
        ]
    )
