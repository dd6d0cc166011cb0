"""Reading 10,000 results and building their tables against reading the same JSON files and nothing else.

    python benchmarks/tables.py [--runs 10000] [--out benchmarks/results/tables.json]

The results are copies of one committed run with other methods, noise rates, settings and seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rsbench.report.build import build_tables
from rsbench.report.formats import render
from rsbench.results.frame import load_results

METHODS = ("infonce", "vse", "rcl", "srem", "rrsitr", "recon", "pmpguard", "rdb", "own-a", "own-b")
RATES = (0.2, 0.4, 0.6, 0.8)
SEEDS = 5


def copies(template: dict[str, Any], runs: int) -> Iterator[dict[str, Any]]:
    """Results that differ in what a table tells apart; shared parts stay shared until they are written."""
    settings = range(-(-runs // (len(METHODS) * len(RATES) * SEEDS)))
    cells = itertools.product(settings, METHODS, RATES, range(SEEDS))
    for at, (setting, method, rate, seed) in enumerate(itertools.islice(cells, runs)):
        noise = template["spec"]["noise"] | {"kind": "shuffle", "rate": rate}
        params = template["spec"]["params"] | {"setting": setting}
        spec = template["spec"] | {"method": method, "seed": seed, "noise": noise, "params": params}
        best = template["test"]["best"] | {"mr": 20.0 + (at * 7919 % 1000) / 100}
        yield template | {"hash": f"{at:016x}", "spec": spec, "test": template["test"] | {"best": best}}


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure(folder: Path, repeats: int) -> dict[str, float]:
    """Medians of interleaved repeats; every file is in the page cache after the first, untimed one."""
    files = sorted(folder.glob("*/result.json"))
    steps: dict[str, Callable[[], object]] = {
        "bare": lambda: [json.loads(f.read_bytes()) for f in files],
        "load": lambda: load_results([folder]),
        "table": lambda: build_tables(load_results([folder])),
        "markdown": lambda: render(build_tables(load_results([folder])), "markdown"),
    }
    steps["bare"]()
    rounds = [{name: seconds(call) for name, call in steps.items()} for _ in range(repeats)]
    found = {f"{name}_s": round(statistics.median(r[name] for r in rounds), 2) for name in steps}
    ratios = {
        f"{name}_over_bare": round(statistics.median(r[name] / r["bare"] for r in rounds), 2)
        for name in steps
        if name != "bare"
    }
    return found | ratios


def main() -> None:
    """Write the copies, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--template", type=Path, default=Path("results/toy"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    done = (json.loads(f.read_text(encoding="utf-8")) for f in sorted(args.template.glob("*/result.json")))
    template = next(r for r in done if r["status"] == "done" and r["spec"]["noise"]["rate"] > 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for result in copies(template, args.runs):
            (folder / result["hash"]).mkdir()
            (folder / result["hash"] / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        found = {"runs": args.runs, **measure(folder, args.repeats)}
    found = {"processor": platform.processor() or platform.machine(), **found}
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
