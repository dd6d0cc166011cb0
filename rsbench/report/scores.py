"""How a scorer's scores of matched, mismatched and replaced pairs lie around the threshold of a ``pmp`` list."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rsbench.errors import NoiseError, UsageError
from rsbench.files import write_atomic
from rsbench.report.plots import AMBIGUOUS, CLEAN, MISMATCHED, require_extra

GROUPS = {"matched": CLEAN, "mismatched": MISMATCHED, "replaced": AMBIGUOUS}
FORMS = (".png", ".svg", ".pdf")
ROWS, WIDTH = 15, 24


def check_plot(path: Path) -> None:
    """Refuse a plot that could not be written, before any work.

    Raises:
        UsageError: another ending.
        DependencyError: matplotlib is not installed.
    """
    if path.suffix not in FORMS:
        raise UsageError(f"--plot '{path.name}': give a file that ends in {', '.join(FORMS)}")
    require_extra()


def text_histogram(manifest: Mapping[str, Any]) -> list[str]:
    """Lines of a small histogram: bars of matched (#), mismatched (-) and replaced (+) pairs per range of scores.

    Each group is drawn against its own highest bar; the line that holds the threshold is marked.
    """
    edges, threshold = np.asarray(manifest["histogram"]["edges"]), float(manifest["threshold"])
    step = (len(edges) - 1) // ROWS
    counts = {g: np.asarray(manifest["histogram"][g])[: step * ROWS].reshape(ROWS, step).sum(1) for g in GROUPS}
    lines = [f"{'score':>8}  " + "".join(f"{m} {g}".ljust(WIDTH + 2) for m, g in zip("#-+", GROUPS, strict=True))]
    for row in range(ROWS):
        low, high = edges[row * step], edges[(row + 1) * step]
        bars = [_bar(mark, counts[g][row], counts[g].max()) for mark, g in zip("#-+", GROUPS, strict=True)]
        told = f"<- threshold {threshold:.4g}" if low <= threshold < high else ""
        lines.append((f"{low:8.3f}  " + "".join(b.ljust(WIDTH + 2) for b in bars) + told).rstrip())
    return lines


def plot_scores(manifest: Mapping[str, Any], path: Path) -> None:
    """Draw the scores with their two normals and the threshold.

    Args:
        manifest: of a ``pmp`` list.
        path: file to write; the ending decides the form.

    Raises:
        UsageError: another ending.
        DependencyError: matplotlib is not installed.
        NoiseError: the file cannot be written.
    """
    check_plot(path)
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axis = figure.subplots()
    edges = np.asarray(manifest["histogram"]["edges"])
    for group, colour in GROUPS.items():
        counts = np.asarray(manifest["histogram"][group])
        density = counts / max(counts.sum(), 1.0) / np.diff(edges)
        axis.stairs(density, edges, fill=group != "replaced", color=colour, alpha=0.5, label=_named(group, counts))
        if group != "replaced":
            axis.plot(*_normal(edges, manifest[group]["mean"], manifest[group]["std"]), color=colour, lw=1)
    axis.axvline(manifest["threshold"], color="black", lw=1, label=f"threshold {manifest['threshold']:.4g}")
    axis.set(xlabel=f"score by {manifest['scorer']['name']}", ylabel="density", yticks=[])
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="small")
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": manifest["sha256"]}):
        figure.savefig(
            buffer, format=path.suffix[1:], dpi=130, metadata={"Date": None} if path.suffix == ".svg" else {}
        )
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise NoiseError(f"cannot write {path}: {error.strerror}") from None


def _bar(mark: str, count: float, most: float) -> str:
    return mark * (int(np.ceil(WIDTH * count / most)) if most else 0)


def _named(group: str, counts: np.ndarray) -> str:
    return f"{group} ({int(counts.sum()):,} pairs)"


def _normal(edges: np.ndarray, mean: float, std: float) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(edges[0], edges[-1], 200)
    wide = max(std, 1e-6)
    return x, np.exp(-0.5 * ((x - mean) / wide) ** 2) / (wide * np.sqrt(2 * np.pi))
