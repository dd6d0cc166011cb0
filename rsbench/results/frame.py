"""Read stored results back. No torch, no pandas."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from rsbench.errors import ResultError
from rsbench.results.schema import SCHEMA_VERSION, Result

RESULT = "result.json"


def load_results(paths: Sequence[Path]) -> list[Result]:
    """Every result below the paths, finished and failed ones alike, each run once.

    A run found twice is kept once: finished before failed, then by path; a copy with other numbers is
    named in the ``warnings`` of the one that is kept.

    Args:
        paths: folders searched recursively, or single ``result.json`` files.

    Raises:
        ResultError: a path without results, a damaged or foreign file, or one of a newer version.
    """
    kept: dict[str, Result] = {}
    for path in paths:
        files = list(result_files(path))
        if not files:
            raise ResultError(f"no {RESULT} below '{path}'; make some with: rsbench run --out {path}")
        for file in files:
            result = read_result(file)
            _keep(kept, result, file)
    return list(kept.values())


def result_files(path: Path) -> Iterator[Path]:
    """Files named ``result.json`` below a path, in sorted order; a run's own subfolders are not searched.

    Raises:
        ResultError: the path does not exist.
    """
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise ResultError(f"there is no folder '{path}'; name a folder of results, or make one with: rsbench run")
    for folder, below, files in os.walk(path):
        below[:] = [] if RESULT in files else sorted(b for b in below if not b.startswith("."))
        if RESULT in files:
            yield Path(folder, RESULT)


def read_result(file: Path) -> Result:
    """One ``result.json``; keys that this version does not know are kept as they are.

    Raises:
        ResultError: not JSON, not a result, or of a newer version.
    """
    try:
        data = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ResultError(f"{file} is damaged ({error}); delete its folder and run again") from None
    spec = data.get("spec") if isinstance(data, dict) else None
    if not isinstance(spec, dict) or not isinstance(data.get("schema"), int):
        raise ResultError(f"{file} is not a result of rsbench; move it out of the results folder")
    if data["schema"] > SCHEMA_VERSION:
        raise ResultError(
            f"{file} has schema {data['schema']}, this version reads up to {SCHEMA_VERSION}; "
            "upgrade with: pip install -U rsbench"
        )
    if lacking := _lacking(spec):
        raise ResultError(f"{file} has a spec without '{lacking}'; delete its folder and run again")
    if wrong := _wrong(spec):
        raise ResultError(f"{file} has a spec whose {wrong}; delete its folder and run again")
    data["hash"] = str(data.get("hash") or file.parent.name)
    return cast("Result", data)


_SPEC_KEYS = ("dataset", "split", "noise", "backbone", "tuning", "weights", "method", "variant", "recipe", "seed")
_NOISE_KEYS = ("kind", "unit", "rate", "source")


def _lacking(spec: dict[str, Any]) -> str:
    """The first field that tables need and the spec lacks, or ""."""
    for key in _SPEC_KEYS:
        if key not in spec:
            return key
    for outer, keys in (("noise", _NOISE_KEYS), ("recipe", ("name",))):
        inner = spec[outer] if isinstance(spec[outer], dict) else {}
        for key in keys:
            if key not in inner:
                return f"{outer}.{key}"
    return ""


def _wrong(spec: dict[str, Any]) -> str:
    """What a table cannot count with, in words, or ""."""
    rate, seed = spec["noise"]["rate"], spec["seed"]
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        return f"noise rate {rate!r} is no share"
    return "" if type(seed) is int else f"seed {seed!r} is no whole number"


def figures(result: Result) -> Any:
    """What two results of one run must agree in."""
    return [result.get(k) for k in ("test", "val", "best_epoch", "detection")]


def _keep(kept: dict[str, Result], result: Result, file: Path) -> None:
    name = result["hash"]
    before = kept.get(name)
    if before is None or (before.get("status") != "done" and result.get("status") == "done"):
        kept[name] = result
    elif before.get("status") == result.get("status") == "done" and figures(before) != figures(result):
        before.setdefault("warnings", []).append(f"run {name} is stored twice with other numbers: {file} was left out")
