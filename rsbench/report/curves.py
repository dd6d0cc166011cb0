"""Figures of the site from plain arrays: curves with bands, and points. Readable without colour. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rsbench.report.plots import CYCLE, _figure
from rsbench.report.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = CYCLE[:7]  # the last one, yellow, is too pale for a line
MARKERS = "osD^vPX*<>"
LINES: tuple[Any, ...] = ("-", "--", "-.", ":")
LONGEST = 40
"""Characters of a name in a legend."""

MEAN_OF_RATE = "mr_"
"""Beginning of the keys of a wide table's columns of figures."""


@dataclass(frozen=True)
class Band:
    """One line.

    Attributes:
        x: ascending.
        mean: one per x.
        std: sample standard deviation (n-1); NaN where there is a single run.
    """

    x: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Point:
    """One point with its deviations, NaN where there is a single run."""

    x: float
    y: float
    x_std: float = math.nan
    y_std: float = math.nan


Panels = Mapping[str, Mapping[str, Band]]


def styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line style of each name; any two of the first 140 differ in at least one."""
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "ls": LINES[i % len(LINES)]}
        for i, name in enumerate(dict.fromkeys(names))
    }


def plain_label(text: str) -> str:
    """A name as matplotlib shows it: no formula, no control character, short."""
    kept = "".join(c for c in " ".join(text.split()) if c.isprintable() and ord(c) < 0x2000)
    short = kept if len(kept) <= LONGEST else kept[: LONGEST - 1] + "…"
    return (" " + short if short.startswith("_") else short).replace("$", r"\$")


def row_label(table: Table, at: int) -> str:
    """What names a row of a table of results: its method, and what tells it from other rows of the method.

    Args:
        table: long or wide.
        at: place of the row.
    """
    method, backbone, settings = _names(table, at)
    block = table.rows[at].block
    others = [_names(table, i) for i, row in enumerate(table.rows) if i != at and row.block == block]
    alike = [other for other in others if other[0] == method]
    told = [method] + ([backbone] if any(other[1] != backbone for other in alike) else [])
    rivals = [set(other[2].split(SEPARATOR)) for other in alike if other[1] == backbone]
    if rivals:
        told += [part for part in settings.split(SEPARATOR) if not all(part in rival for rival in rivals)]
    return SEPARATOR.join(filter(None, told))


SEPARATOR = ", "


def _names(table: Table, at: int) -> tuple[str, str, str]:
    cells = dict(zip((c.key for c in table.columns), table.rows[at].cells, strict=True))
    method, backbone, settings = (cells[k].text if k in cells else "" for k in ("method", "backbone", "settings"))
    return method, backbone, settings


def noise_bands(table: Table) -> dict[str, Band]:
    """Lines of mR over noise rates from a wide table of ``build_tables``; marked cells leave a gap.

    Returns:
        Name of a row -> its line; rows without any mean are left out.
    """
    rates = {
        at: float(c.key[len(MEAN_OF_RATE) :]) for at, c in enumerate(table.columns) if c.key.startswith(MEAN_OF_RATE)
    }
    found = {}
    for at, row in enumerate(table.rows):
        cells = [(rate, row.cells[i]) for i, rate in rates.items() if row.cells[i].mean is not None]
        if cells:
            std = tuple(math.nan if c.std is None else c.std for _, c in cells)
            found[row_label(table, at)] = Band(tuple(r for r, _ in cells), tuple(c.mean for _, c in cells), std)  # type: ignore[misc]
    return found


def bands(panels: Panels, x_label: str, y_label: str, integer: bool = False) -> Figure:
    """Lines with a band of one standard deviation, panels side by side, one legend for all.

    Args:
        panels: title -> name -> line.
        x_label: of every panel.
        y_label: of the first panel.
        integer: ticks at whole numbers alone.
    """
    figure, axes = _figure(len(panels), 4.8, 3.4, 3)
    look = styles(name for lines in panels.values() for name in lines)
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for name, line in lines.items():
            mean, std = np.asarray(line.mean), np.nan_to_num(np.asarray(line.std))
            axis.plot(line.x, mean, ms=4.5, lw=1.4, mfc="white", **look[name])
            if std.any():
                axis.fill_between(line.x, mean - std, mean + std, color=look[name]["color"], alpha=0.15, lw=0)
        axis.set(title=plain_label(title), xlabel=x_label)
        if integer:
            axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel(y_label)
    _legend(figure, look)
    return figure


def points(panels: Mapping[str, Mapping[str, Point]], x_label: str, y_label: str) -> Figure:
    """Points with bars of one standard deviation; the horizontal axis is logarithmic where values lie far apart."""
    figure, axes = _figure(len(panels), 4.8, 3.4, 3)
    look = styles(name for found in panels.values() for name in found)
    values = [p.x for found in panels.values() for p in found.values()]
    for axis, (title, found) in zip(axes, panels.items(), strict=True):
        for name, p in found.items():
            bars = {"xerr": np.nan_to_num(p.x_std), "yerr": np.nan_to_num(p.y_std)}
            axis.errorbar([p.x], [p.y], **bars, ms=7, mfc="white", elinewidth=0.8, **(look[name] | {"ls": ""}))
        if min(values) > 0 and max(values) > 5 * min(values):
            axis.set_xscale("log")
        axis.set(title=plain_label(title), xlabel=x_label)
    axes[0].set_ylabel(y_label)
    _legend(figure, {name: how | {"ls": ""} for name, how in look.items()})
    return figure


def _legend(figure: Figure, look: Mapping[str, Mapping[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=plain_label(name), ms=4.5, mfc="white", **how) for name, how in look.items()]
    width = 0.5 + 0.075 * max((len(plain_label(name)) for name in look), default=0)
    figure.set_size_inches(figure.get_figwidth() + width, max(figure.get_figheight(), 0.4 + 0.21 * len(look)))
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize="small")


def mean_band(lines: Sequence[Mapping[int, float]]) -> Band | None:
    """Mean and sample standard deviation over runs of values by epoch.

    Args:
        lines: one per run, epoch (from 0) -> value; epochs that some run lacks are left out, as the mean over the
            others would pass for all.

    Returns:
        Epochs counted from 1; None where no epoch is common to all.
    """
    common = sorted(set.intersection(*(set(line) for line in lines))) if lines else []
    values = np.array([[line[e] for e in common] for line in lines], dtype=np.float64)
    if not common or not np.isfinite(values).any():
        return None
    kept = np.flatnonzero(np.isfinite(values).all(axis=0))
    values, common = values[:, kept], [common[i] for i in kept]
    if not common:
        return None
    std = values.std(axis=0, ddof=1) if len(lines) > 1 else np.full(len(common), np.nan)
    return Band(tuple(e + 1.0 for e in common), tuple(values.mean(axis=0).tolist()), tuple(std.tolist()))
