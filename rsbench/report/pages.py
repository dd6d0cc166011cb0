"""Pages of the site as HTML: templates, safe names, and what a page of one run shows. No torch."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsbench.report.groups import flatten, method_label
from rsbench.report.plots import require_extra
from rsbench.results.schema import Result

History = Sequence[Mapping[str, Any]]
Facts = list[tuple[str, str]]

WIDTH, HEIGHT, MARGIN = 260, 96, 6
"""Box of a small chart, in its own units."""

CHARTS = {"val.mr": "validation mR", "pairs.detection.auroc": "AUROC of noise detection", "loss": "training loss"}
"""Values of a history that are drawn, under the names of its flattened lines."""


@dataclass(frozen=True)
class Chart:
    """A small line chart.

    Attributes:
        alt: what it shows, in words.
        path: SVG path; a gap where an epoch has no value.
        dots: centres of single points, ``(x, y)``.
        best: x of the best epoch, None where it is not known.
    """

    alt: str
    path: str
    dots: tuple[tuple[float, float], ...]
    best: float | None


def printable(value: Any) -> Any:
    """Text without control characters, in one line; anything else, and text that is HTML already, as it is."""
    if type(value) is not str:
        return value
    return "".join(c for c in " ".join(value.split()) if c.isprintable())


@functools.cache
def _environment() -> Any:
    require_extra()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("rsbench.report", "templates/pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(name: str, **values: Any) -> str:
    """A template of ``templates/pages`` as HTML; every text is escaped.

    Raises:
        DependencyError: jinja2 or matplotlib is not installed.
    """
    return str(_environment().get_template(name).render(**values))


def asset(name: str) -> str:
    """A file of ``templates/pages`` as it is: the style sheet or the script.

    Raises:
        DependencyError: jinja2 or matplotlib is not installed.
    """
    return str(_environment().loader.get_source(_environment(), name)[0])


def file_name(text: str) -> str:
    """A name for a file that no text can lead out of its folder; different texts get different names."""
    plain = re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip(".-")[:60]
    if plain and plain == text:
        return plain
    return f"{plain or 'x'}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def run_path(name: str) -> str:
    """Page of a run, from the top of the site."""
    return f"runs/{file_name(name)}.html"


def method_path(method: str) -> str:
    """Page of a method, from the top of the site."""
    return f"methods/{file_name(method)}.html"


def shown(value: Any) -> str:
    """A value of a spec, result or history as short text."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, default=str) if isinstance(value, list | tuple | dict) else str(value)


def title_of_run(result: Result) -> str:
    """Method, dataset, noise and seed in one line."""
    spec = result["spec"]
    rate = float(spec["noise"]["rate"])
    noise = f"{spec['noise']['kind']} noise {rate:g}" if rate > 0 else "no noise added"
    return f"{method_label(spec)} on {spec['dataset']}, {noise}, seed {spec['seed']}"


def run_page(result: Result, history: History | None, note: str, menu: Sequence[tuple[str, str]]) -> str:
    """The page of one run: spec, figures, environment, history as a table and as small charts, warnings.

    Args:
        result: of the run, finished or failed.
        history: lines of ``history.jsonl``; None where there are none.
        note: why the history is not there, or "".
        menu: (name, path) of the pages of the site.
    """
    flat = [flatten(line) for line in history or ()]
    names = list(dict.fromkeys(k for line in flat for k in line if k != "epoch"))
    return render(
        "run.html",
        title=title_of_run(result),
        root="../",
        here="runs",
        menu=menu,
        warnings=_warnings(result),
        method_page=method_path(str(result["spec"]["method"])),
        blocks=_blocks(result),
        charts=_charts(flat, result.get("best_epoch")),
        history_note=note,
        headers=["epoch", *names],
        lines=[[_epoch(line), *(shown(line[n]) if n in line else "—" for n in names)] for line in flat],
    )


def _epoch(line: Mapping[str, Any]) -> str:
    """Epochs are counted from 1 where a reader sees them."""
    epoch = line.get("epoch")
    return str(epoch + 1) if isinstance(epoch, int) else shown(epoch)


def _warnings(result: Result) -> list[str]:
    failed = (
        [] if result.get("status") == "done" else [f"This run failed and counts nowhere: {result.get('error', '')}"]
    )
    return failed + [str(w) for w in result.get("warnings", [])]


def _blocks(result: Result) -> list[tuple[str, Facts]]:
    best = result.get("best_epoch")
    state: Facts = [("hash", str(result.get("hash"))), ("status", str(result.get("status")))]
    state += [("best epoch", _epoch({"epoch": best}) + f" of {result.get('epochs', '?')}")] if best is not None else []
    found = [("Run", state)]
    for name in ("test", "val", "detection", "noise", "dataset", "method", "time", "environment"):
        part = dict(result.get(name) or {})  # type: ignore[call-overload]
        part.pop("epochs", None)  # seconds of every epoch are too long for a table of facts
        if part:
            found.append((name.capitalize(), _rows(part)))
    return [*found, ("Spec", _rows(result.get("spec")))]


def _rows(part: Any) -> Facts:
    return [(name, shown(value)) for name, value in flatten(part or {}).items()]


def _charts(lines: Sequence[Mapping[str, Any]], best: Any) -> list[Chart]:
    found = []
    for key, name in CHARTS.items():
        values = [line.get(key) for line in lines]
        numbers = [float(v) if isinstance(v, int | float) else math.nan for v in values]
        if any(map(math.isfinite, numbers)):
            found.append(chart(name, numbers, best if isinstance(best, int) else None))
    return found


def chart(name: str, values: Sequence[float], best: int | None = None) -> Chart:
    """Values over epochs as a line.

    Args:
        name: what they are.
        values: one per epoch; those that are not finite leave a gap.
        best: epoch to mark, from 0.
    """
    finite = [v for v in values if math.isfinite(v)]
    low, high = min(finite), max(finite)
    step = (WIDTH - 2 * MARGIN) / max(1, len(values) - 1)
    scale = (HEIGHT - 2 * MARGIN) / (high - low) if high > low else 0.0
    points = [
        (round(MARGIN + i * step, 1), round(HEIGHT - MARGIN - (v - low) * scale, 1)) if math.isfinite(v) else None
        for i, v in enumerate(values)
    ]
    path, pen = "", "M"
    for point in points:
        path += f"{pen}{point[0]} {point[1]}" if point else ""
        pen = "L" if point else "M"
    dots = tuple(p for p in points if p) if len(finite) < 3 else ()
    alt = f"{name} over {len(values)} epochs, from {finite[0]:.4g} to {finite[-1]:.4g}"
    alt += f" (lowest {low:.4g}, highest {high:.4g})"
    marked = None if best is None or not 0 <= best < len(values) else round(MARGIN + best * step, 1)
    return Chart(alt + ("" if marked is None else "; dashed: best epoch"), path, dots, marked)
