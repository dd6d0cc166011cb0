"""What a model retrieved, as a figure for a paper (as RDB, Fig. 4 and 5). No torch."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rsbench.errors import UsageError
from rsbench.report.retrieved import SIGNS, Found, Hit, Pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT, WRONG, UNKNOWN = "#1a7f37", "#c62828", "#555555"
LINES = {True: (RIGHT, "-"), False: (WRONG, "--"), None: (UNKNOWN, "-")}
"""Colour and line of a frame, so that nothing rests on the colour alone."""

CELL, TITLE = 1.5, 0.35


def draw_retrieved(sections: Sequence[tuple[str, Sequence[Found]]]) -> Figure:
    """One row per query: the query, then what was retrieved, best first; right ones ✓ and green, wrong ones ✗ and red.

    Args:
        sections: (heading, answers); captions are written one below the other, images stand side by side.

    Raises:
        UsageError: no answer at all.
    """
    from matplotlib.figure import Figure

    answers = [(heading if first == 0 else "", f) for heading, found in sections for first, f in enumerate(found)]
    if not answers:
        raise UsageError("nothing was retrieved, so that there is no figure; draw at least one query: --gallery 3")
    most = max(len(f.hits) for _, f in answers)
    figure = Figure(figsize=((most + 1.6) * CELL, len(answers) * (CELL + TITLE)), layout="constrained")
    grid = figure.add_gridspec(len(answers), most + 1, width_ratios=[1.6] + [1.0] * most)
    for row, (heading, found) in enumerate(answers):
        query = _blank(figure.add_subplot(grid[row, 0]))
        if heading:
            query.set_title(heading, loc="left", fontsize=9, fontweight="bold")
        if found.image is not None:
            _picture(query, found.image, None)
            _captions(_blank(figure.add_subplot(grid[row, 1:])), found.hits)
            continue
        query.text(0.5, 0.5, _wrapped(found.query, 26), ha="center", va="center", fontsize=8, parse_math=False)
        for at, hit in enumerate(found.hits, 1):
            axis = _blank(figure.add_subplot(grid[row, at]))
            if hit.image is not None:
                _picture(axis, hit.image, hit)
    return figure


def _blank(axis: Any) -> Any:
    axis.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
    axis.spines[:].set_visible(False)
    return axis


def _picture(axis: Any, pixels: Pixels, hit: Hit | None) -> None:
    height, width = pixels.shape[:2]
    axis.imshow(pixels, aspect="equal", extent=(0, width, height, 0))
    axis.set(xlim=(0, width), ylim=(height, 0))  # the first row of pixels is on top
    if hit is None:
        return
    colour, line = LINES[hit.right]
    axis.spines[:].set(visible=True, color=colour, linestyle=line, linewidth=3)
    axis.set_title(f"{SIGNS[hit.right]} {hit.score:.2f}".strip(), fontsize=8, color=colour)


def _captions(axis: Any, hits: Sequence[Hit]) -> None:
    step = 1 / max(1, len(hits))
    for at, hit in enumerate(hits):
        text = f"{SIGNS[hit.right]} {hit.score:.2f}  {_wrapped(' '.join(hit.captions), 90, 1)}".strip()
        place = 1 - (at + 0.5) * step
        axis.text(0.01, place, text, va="center", fontsize=8, color=LINES[hit.right][0], parse_math=False)


def _wrapped(text: str, width: int, lines: int = 6) -> str:
    plain = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return "\n".join(textwrap.wrap(plain, width, max_lines=lines, placeholder=" …"))
