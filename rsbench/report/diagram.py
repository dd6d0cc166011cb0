"""Critical-difference diagrams (Demšar 2006, Fig. 1) as text and as a figure."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rsbench.errors import UsageError
from rsbench.files import write_atomic
from rsbench.report.plots import require_extra
from rsbench.report.ranking import Ranking

FORMS = (".png", ".svg")
WIDTH = 61
"""Characters of the axis of a text diagram."""


def check_plot(path: Path) -> None:
    """Refuse a figure that could not be written, before any work.

    Raises:
        UsageError: another ending, or no such folder.
        DependencyError: matplotlib is not installed.
    """
    if path.suffix not in FORMS:
        raise UsageError(f"--plot '{path.name}': give a file that ends in {' or '.join(FORMS)}")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder '{path.parent}' for --plot; make it first: mkdir -p {path.parent}")
    require_extra()


def text_diagram(found: Ranking) -> list[str]:
    """An axis of ranks, ``o`` for each method, ``=`` under methods between which no difference is shown."""
    last = len(found.methods)
    indent = max(map(len, (*found.methods, "CD"))) + 2

    def at(rank: float) -> int:
        return round((rank - 1) / (last - 1) * (WIDTH - 1))

    def line(name: str, drawn: str, told: str = "") -> str:
        return f"{name:<{indent}}{drawn:<{WIDTH}}  {told}".rstrip()

    ticks, numbers = ["-"] * WIDTH, [" "] * (WIDTH + 2)
    for place in range(1, last + 1):
        ticks[at(place)] = "+"
        numbers[at(place) : at(place) + len(str(place))] = str(place)
    lines = [line("", "".join(numbers).rstrip()), line("", "".join(ticks))]
    lines.append(line("CD", "=" * (at(1 + min(found.critical, last - 1)) + 1), f"{found.critical:.2f}"))
    pairs = zip(found.methods, found.ranks, strict=True)
    lines += [line(method, " " * at(rank) + "o", f"{rank:.2f}") for method, rank in pairs]
    for first, end in found.groups:
        start, stop = at(found.ranks[first]), at(found.ranks[end])
        lines.append(line("", " " * start + "=" * (stop - start + 1), "no difference shown"))
    return lines


def plot_ranking(found: Ranking, path: Path) -> None:
    """Draw the diagram: better methods left, bars over methods between which no difference is shown.

    Args:
        found: what to draw.
        path: file to write, PNG or SVG by its ending; the same bytes for the same ranking.

    Raises:
        UsageError: another ending, or no such folder.
        DependencyError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    check_plot(path)
    import matplotlib

    figure, buffer = _figure(found), io.BytesIO()
    form = path.suffix[1:]
    with matplotlib.rc_context({"svg.hashsalt": "ranking"}):
        figure.savefig(buffer, format=form, dpi=150, metadata={"Date": None} if form == "svg" else {})
    write_atomic(path, buffer.getvalue())


def _figure(found: Ranking) -> Any:
    from matplotlib.figure import Figure

    n = len(found.methods)
    rows, bars = (n + 1) // 2, found.groups
    depth = 0.35 * len(bars) + 0.4
    figure = Figure(figsize=(6.6, 0.9 + 0.22 * (depth + rows)), layout="constrained")
    axis = figure.subplots()
    axis.axis("off")
    axis.set(xlim=(1 - 0.28 * (n - 1), n + 0.28 * (n - 1)), ylim=(depth + rows, -2.6))
    _axis(axis, n, found.critical)
    for at, (method, rank) in enumerate(zip(found.methods, found.ranks, strict=True)):
        left = at < rows
        y = depth + (at if left else n - 1 - at) + 0.5
        edge, side = (1.0, "right") if left else (float(n), "left")
        axis.plot([rank, rank, edge], [0, y, y], color="black", lw=0.8)
        axis.text(edge, y, f" {method} ({rank:.2f}) ", ha=side, va="center", fontsize=9, parse_math=False)
    for level, (first, last) in enumerate(bars):
        y, margin = 0.35 * (level + 1), 0.008 * (n - 1)
        axis.plot([found.ranks[first] - margin, found.ranks[last] + margin], [y, y], color="black", lw=3.5)
    return figure


def _axis(axis: Any, n: int, critical: float) -> None:
    """The scale of ranks, and the critical difference above it."""
    axis.plot([1, n], [0, 0], color="black", lw=1)
    for place in range(1, n + 1):
        axis.plot([place, place], [0, -0.3], color="black", lw=1)
        axis.text(place, -0.45, str(place), ha="center", va="bottom", fontsize=9)
    axis.plot([1, 1 + critical], [-1.9, -1.9], color="black", lw=1.5)
    axis.text(1 + critical / 2, -2.0, f"CD = {critical:.2f}", ha="center", va="bottom", fontsize=9)
