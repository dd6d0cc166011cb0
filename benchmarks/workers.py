"""Runs side by side in worker processes against the same runs one after another.

    python benchmarks/workers.py [--seeds 10] [--out benchmarks/results/workers.json]

InfoNCE on the toy dataset at noise 0.4; features are cached before the clock starts, starting the workers counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from rsbench.data.root import data_root
from rsbench.experiment.launch.cards import LocalSettings
from rsbench.experiment.launch.local import launch
from rsbench.experiment.plan import make_plan
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, materials


def seconds(seeds: int, workers: int) -> float:
    """Wall seconds of all runs with some workers."""
    root = data_root()
    specs = resolve(Request(methods=("infonce",), datasets=("toy",), rates=(0.4,), seeds=tuple(range(seeds))), root)
    materials(specs[0], root)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        outcomes = list(
            launch(make_plan(specs, Path(folder)), Options(root, Path(folder)), LocalSettings(workers), lambda *_: None)
        )
        assert all(o.status == "done" for o in outcomes)
        return time.perf_counter() - started


def main() -> None:
    """Measure interleaved pairs and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    seconds(1, 1)
    pairs = [(seconds(args.seeds, 1), seconds(args.seeds, cores)) for _ in range(args.repeats)]
    found = {
        "runs": args.seeds,
        "workers": cores,
        "one_after_another_s": round(statistics.median(a for a, _ in pairs), 1),
        "side_by_side_s": round(statistics.median(b for _, b in pairs), 1),
        "speed_up": round(statistics.median(a / b for a, b in pairs), 2),
    }
    print(found)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
