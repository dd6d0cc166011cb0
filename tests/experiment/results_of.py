"""What two runs of one spec must agree in: everything but times and the machine."""

from __future__ import annotations

import json

from rsbench.results.store import RunFolder


def numbers(folder: RunFolder) -> dict[str, object]:
    """The result without times and environment."""
    result = json.loads(folder.result.read_text())
    return {k: v for k, v in result.items() if k not in ("time", "environment")}


def files(folder: RunFolder) -> dict[str, bytes]:
    """Bytes of spec, weights, history and per-pair records."""
    paths = [folder.weights, folder.history, folder.spec, *sorted(folder.pairs.iterdir())]
    return {p.name: p.read_bytes() for p in paths}
