"""Figures from plain arrays: drawn by matplotlib without a screen, saved as PNG and SVG. No torch.

Epochs are counted from 0 in the arguments and from 1 in the pictures, as on the command line.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rsbench.errors import DependencyError
from rsbench.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]

CLEAN, MISMATCHED, AMBIGUOUS, PLAIN = "#0072B2", "#D55E00", "#E69F00", "#666666"
"""Colours that colour-blind readers can tell apart (Okabe and Ito)."""

CYCLE = (CLEAN, MISMATCHED, "#009E73", "#CC79A7", AMBIGUOUS, "#56B4E9", "#000000", "#F0E442")
PARTS = {"clean": CLEAN, "ambiguous": AMBIGUOUS, "noisy": MISMATCHED}
BINS = 60


def require_extra() -> None:
    """Check that what figures and pages need is installed.

    Raises:
        DependencyError: names the missing packages and how to install them.
    """
    missing = [m for m in ("matplotlib", "jinja2") if importlib.util.find_spec(m) is None]
    if missing:
        raise DependencyError(
            f"figures and pages need {' and '.join(missing)}; install with: pip install 'rsbench[report]'"
        )


def _figure(panels: int, width: float = 3.4, height: float = 2.6, columns: int = 4) -> tuple[Figure, list[Any]]:
    """A figure and its axes, row by row; unused axes are left out."""
    from matplotlib.figure import Figure

    wide = min(columns, panels)
    rows = -(-panels // wide)
    figure = Figure(figsize=(wide * width, rows * height), layout="constrained")
    axes = list(figure.subplots(rows, wide, squeeze=False).flat)
    for unused in axes[panels:]:
        unused.remove()
    for axis in axes[:panels]:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[:panels]


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``name.png`` and ``name.svg``, the same bytes for the same figure.

    Raises:
        OSError: the folder cannot be written.
    """
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": name}):
        for form, metadata in (("png", {}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=form, dpi=130, metadata=metadata)
            write_atomic(folder / f"{name}.{form}", buffer.getvalue())


FORMS = (".png", ".svg", ".pdf")
"""Endings of files that a command writes as figures."""


def write_figure(figure: Figure, path: Path) -> None:
    """Write one figure in the form that the ending names, one of ``FORMS``.

    Raises:
        OSError: the folder cannot be written.
    """
    import matplotlib

    buffer, form = io.BytesIO(), path.suffix.removeprefix(".").lower()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form, {})
    with matplotlib.rc_context({"svg.hashsalt": path.name}):
        figure.savefig(buffer, format=form, dpi=110, metadata=metadata)
    write_atomic(path, buffer.getvalue())


def histograms(panels: Mapping[str, Floats], mismatched: Bools | None, label: str = "") -> Figure:
    """Densities of per-pair values, one panel each; clean and mismatched pairs apart where the truth is known.

    Each group integrates to 1, so that a small group stays visible.

    Args:
        panels: title -> values ``[P]``; NaN (not visited) and infinite values are left out.
        mismatched: bool ``[P]``, or None where there is no truth.
        label: name of the horizontal axis.
    """
    figure, axes = _figure(len(panels))
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        _histogram(axis, np.asarray(values, dtype=np.float64), mismatched)
        axis.set(title=title, xlabel=label, yticks=[])
    axes[0].set_ylabel("density")
    axes[0].legend(frameon=False, fontsize="small")
    return figure


def _histogram(axis: Any, values: npt.NDArray[np.float64], mismatched: Bools | None) -> None:
    seen = np.isfinite(values)
    if mismatched is None:
        groups = [("all pairs", PLAIN, seen)]
    else:
        groups = [("clean", CLEAN, seen & ~mismatched), ("mismatched", MISMATCHED, seen & mismatched)]
    low, high = (values[seen].min(), values[seen].max()) if seen.any() else (0.0, 1.0)
    pad = 0.5 if low == high else 0.0  # a constant still gets bins of some width
    edges = np.linspace(low - pad, high + pad, BINS + 1)
    for name, colour, group in groups:
        if group.any():
            heights, _ = np.histogram(values[group], edges, density=True)
            axis.stairs(heights, edges, fill=True, color=colour, alpha=0.55, label=f"{name} ({group.sum():,})")
        else:
            axis.plot([], [], color=colour, label=f"{name} (0)")


def curves(
    epochs: Sequence[int],
    lines: Mapping[str, Sequence[float]],
    label: str = "",
    best: int | None = None,
    limits: tuple[float, float | None] | None = None,
) -> Figure:
    """Named values over epochs in one panel.

    Args:
        epochs: from 0.
        lines: name -> one value per epoch, NaN where there is none.
        label: name of the vertical axis.
        best: epoch to mark.
        limits: of the vertical axis; an upper one of None is chosen by the data.
    """
    figure, (axis,) = _figure(1, 5.2, 3.2)
    _curves(axis, epochs, lines, best)
    axis.set(ylabel=label)
    if limits:
        axis.set_ylim(*limits)
    return figure


def _curves(axis: Any, epochs: Sequence[int], lines: Mapping[str, Sequence[float]], best: int | None) -> None:
    for i, (name, values) in enumerate(lines.items()):
        axis.plot([e + 1 for e in epochs], values, marker="o", ms=3, color=CYCLE[i % len(CYCLE)], label=name)
    if best is not None:
        axis.axvline(best + 1, color=PLAIN, lw=0.8, ls=":", label="best epoch")
    axis.set_xlabel("epoch")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if len(lines) > 1:
        axis.legend(frameon=False, fontsize="small")


def small_curves(epochs: Sequence[int], lines: Mapping[str, Sequence[float]], best: int | None = None) -> Figure:
    """Named values over epochs, one small panel each: their scales differ."""
    figure, axes = _figure(len(lines))
    for axis, (name, values) in zip(axes, lines.items(), strict=True):
        _curves(axis, epochs, {name: values}, best)
        axis.set_title(name)
    return figure


def divisions(
    epochs: Sequence[int],
    shares: Mapping[str, Sequence[float]],
    purity: Mapping[str, Sequence[float]] | None,
    best: int | None = None,
) -> Figure:
    """Sizes of the parts stacked, and the share of truly clean pairs in each.

    Args:
        epochs: from 0; those that divide pairs.
        shares: part (``PARTS``) -> share of all divided pairs per epoch.
        purity: part -> share of its pairs that are truly clean, NaN for an empty part; None without truth.
        best: epoch to mark.
    """
    figure, axes = _figure(1 if purity is None else 2, 4.6, 3.2)
    bottom = np.zeros(len(epochs))
    for name, values in shares.items():
        axes[0].bar([e + 1 for e in epochs], values, 0.9, bottom, color=PARTS[name], alpha=0.75, label=name)
        bottom += np.asarray(values)
    axes[0].set(xlabel="epoch", ylabel="share of pairs", ylim=(0, 1))
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(frameon=False, fontsize="small", ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    if purity is not None:
        _curves(axes[1], epochs, purity, best)
        for line in axes[1].get_lines():
            line.set_color(PARTS.get(line.get_label(), PLAIN))
        axes[1].set(ylabel="share truly clean", ylim=(-0.02, 1.02))
        axes[1].legend(frameon=False, fontsize="small")
    return figure


BOUNDARY = ("t_k", "mu_pos", "sd_pos", "mu_neg", "sd_neg")
"""Values per epoch that ``boundary`` draws (PMPGuard)."""


def boundary(epochs: Sequence[int], terms: Mapping[str, Sequence[float]], best: int | None = None) -> Figure:
    """The learned boundary t_k with its two normals: over epochs as mean and one deviation, and at the last epoch.

    Args:
        epochs: from 0.
        terms: ``BOUNDARY`` -> one value per epoch.
        best: epoch to mark.
    """
    figure, (over, last) = _figure(2, 4.6, 3.2)
    shown = [e + 1 for e in epochs]
    values = {k: np.asarray(terms[k], dtype=np.float64) for k in BOUNDARY}
    _curves(over, epochs, {"t_k": terms["t_k"]}, best)
    over.get_lines()[0].set_color("black")
    for side, name, colour in (("pos", "matched", CLEAN), ("neg", "unmatched", MISMATCHED)):
        mean, deviation = values[f"mu_{side}"], values[f"sd_{side}"]
        over.plot(shown, mean, color=colour, label=name)
        over.fill_between(shown, mean - deviation, mean + deviation, color=colour, alpha=0.2, lw=0)
        _normal(last, mean[-1], deviation[-1], colour, name)
    over.legend(frameon=False, fontsize="small")
    last.axvline(values["t_k"][-1], color="black", label="t_k")
    last.set(xlabel="word similarity", title=f"epoch {shown[-1]}", yticks=[])
    last.legend(frameon=False, fontsize="small")
    return figure


def _normal(axis: Any, mean: float, deviation: float, colour: str, name: str) -> None:
    if not (math.isfinite(mean) and deviation > 0):
        return
    x = np.linspace(mean - 4 * deviation, mean + 4 * deviation, 200)
    axis.plot(
        x, np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi)), color=colour, label=name
    )
