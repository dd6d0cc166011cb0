"""What the launcher `local` costs per run: runs through one warm worker against the same runs in a bare loop.

    python benchmarks/scheduling.py [--runs 20] [--repeats 3] [--out benchmarks/results/scheduling.json]

InfoNCE on the toy dataset, one epoch. Features are cached and the loop's process is warm before the clock starts. The
worker is started and warmed by a first job whose end starts its clock, so that both sides run the same N jobs warm.
Where other work shares the cores, the figure outside the runs (wall seconds less those that the runs themselves count,
on both sides) varies less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from rsbench.data.root import data_root
from rsbench.experiment.launch.cards import LocalSettings
from rsbench.experiment.launch.local import launch
from rsbench.experiment.plan import Job, make_plan
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute

ENOUGH_MB = 1_000_000
"""A memory limit that is never met: with one, even a single slot is a worker process."""


def jobs_of(runs: int, out: Path) -> list[Job]:
    """One job to warm up, and the runs."""
    seeds = tuple(range(runs + 1))
    request = Request(("infonce",), ("toy",), (0.4,), seeds, settings={"recipe.epochs": ("1",)})
    return make_plan(resolve(request, data_root()), out)


def bare_loop(runs: int) -> tuple[float, float]:
    """Wall seconds of the runs in this process, and those that the runs themselves count."""
    with tempfile.TemporaryDirectory() as folder:
        first, *rest = jobs_of(runs, Path(folder))
        options = Options(data_root(), Path(folder), "cpu")
        execute(first.spec, options)
        started = time.perf_counter()
        inside = sum(execute(job.spec, options)["time"]["total"] for job in rest)
        return time.perf_counter() - started, inside


def through_the_launcher(runs: int) -> tuple[float, float, float]:
    """Wall seconds of the runs in a warm worker, those that the runs count, and those of starting and warming it."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        options = Options(data_root(), Path(folder), "cpu")
        outcomes = launch(jobs_of(runs, Path(folder)), options, worker(), lambda *_: None)
        assert next(outcomes).status == "done"
        started = time.perf_counter()
        inside = [o.result["time"]["total"] for o in outcomes if o.result]
        assert len(inside) == runs
        return time.perf_counter() - started, sum(inside), started - began


def worker() -> LocalSettings:
    """One slot in a process of its own, whatever the memory of this machine."""
    return LocalSettings(slots=1, memory_mb=ENOUGH_MB)


def main() -> None:
    """Measure interleaved pairs and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    pairs = [(bare_loop(args.runs), through_the_launcher(args.runs)) for _ in range(args.repeats)]
    per_run = [
        ((warm - bare) / args.runs, (warm - in_warm - bare + in_bare) / args.runs)
        for (bare, in_bare), (warm, in_warm, _) in pairs
    ]
    found = {
        "runs": args.runs,
        "repeats": args.repeats,
        "bare_loop_s_per_run": round(statistics.median(bare for (bare, _), _ in pairs) / args.runs, 3),
        "launcher_s_per_run": round(statistics.median(warm for _, (warm, _, _) in pairs) / args.runs, 3),
        "overhead_s_per_run": round(statistics.median(wall for wall, _ in per_run), 3),
        "overhead_outside_the_runs_s_per_run": round(statistics.median(outside for _, outside in per_run), 3),
        "overheads_s_per_run": [round(wall, 3) for wall, _ in per_run],
        "first_job_of_a_worker_s": round(statistics.median(start for _, (_, _, start) in pairs), 1),
    }
    print(found)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
