"""The common recipe's search: every method gets six settings, one seed, noise 0.4, validation only.

    python benchmarks/search.py toy
    python benchmarks/search.py rsicd --backbone lite --tuning heads
    python benchmarks/search.py rsicd-2k --config benchmarks/grids/rsicd-2k.toml --methods rrsitr

Runs go to results/search (finished ones are kept); the best setting of each method by validation mR is written to
rsbench/experiment/tuned.toml, from where `rsbench run --recipe common` takes it. The test part is never read.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rsbench.data.root import data_root
from rsbench.experiment.launch.cards import LocalSettings
from rsbench.experiment.launch.local import launch
from rsbench.experiment.plan import make_plan
from rsbench.experiment.request import Request, parse_settings, read_config
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options
from rsbench.experiment.spec import RunSpec
from rsbench.files import write_atomic
from rsbench.methods.build import load_card
from rsbench.results.store import RunFolder

RATE, SEED = 0.4, 0
TUNED = Path(__file__).parents[1] / "rsbench" / "experiment" / "tuned.toml"


def specs_of(method: str, request: Request, root: Path) -> list[tuple[Mapping[str, Any], RunSpec]]:
    """One validation-only spec for each setting on the method's card, from the paper's or card's defaults."""
    found = []
    for setting in load_card(method).searched:
        asked = {f"method.{k}": (str(v).lower() if isinstance(v, bool) else str(v),) for k, v in setting.items()}
        settings = {**request.settings, **asked}
        spec = resolve(dataclasses.replace(request, methods=(method,), settings=settings), root)[0]
        found.append((setting, spec))
    return found


def toml_row(spec: RunSpec, setting: Mapping[str, Any], mr: float, tried: int) -> str:
    """One [[chosen]] row."""
    values = ", ".join(f"{k} = {json.dumps(v)}" for k, v in setting.items())  # strings and booleans as TOML has them
    return (
        f'\n[[chosen]]\ndataset = "{spec.dataset}"\nbackbone = "{spec.backbone}"\ntuning = "{spec.tuning}"\n'
        f'method = "{spec.method}"\nparams = {{ {values} }}\nval_mr = {mr:.2f}\ntried = {tried}\nrun = "{spec.hash}"\n'
    )


def rows_of_others(text: str, specs: Sequence[RunSpec]) -> list[str]:
    """Rows of the file that a search of these specs does not replace: of other data, backbones or methods."""
    same = {toml_row(spec, {}, 0.0, 0).partition("params")[0].lstrip("\n") for spec in specs}
    rows = ["[[chosen]]\n" + row.rstrip() + "\n" for row in text.split("\n[[chosen]]\n")[1:]]
    return ["\n" + row for row in rows if row.partition("params")[0] not in same]


def main() -> None:
    """Search, then write the choices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("dataset")
    parser.add_argument("--backbone")
    parser.add_argument("--tuning")
    parser.add_argument("--config", type=Path, help="grid file that gives backbone, tuning and settings instead")
    parser.add_argument("--methods", default="infonce,vse,rcl,srem")
    parser.add_argument("--out", type=Path, default=Path("results/search"))
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    root = data_root()
    grid = read_config(args.config) if args.config else {}
    request = Request(
        methods=(),
        datasets=(args.dataset,),
        rates=(RATE,),
        seeds=(SEED,),
        backbone=args.backbone or grid.get("backbone"),
        tuning=args.tuning or grid.get("tuning"),
        settings=parse_settings(grid.get("set", [])),
        held_out=False,
        tuned=False,
    )
    searched = {m: specs_of(m, request, root) for m in args.methods.split(",")}
    jobs = [j for j in make_plan([s for rows in searched.values() for _, s in rows], args.out) if j.todo]
    for outcome in launch(
        jobs, Options(root, args.out, "cpu", keep_weights=False), LocalSettings(args.jobs), lambda *_: None
    ):
        mr = outcome.result["val"]["best"]["mr"] if outcome.result else outcome.error
        print(outcome.job.spec.method, dict(outcome.job.spec.params), outcome.status, mr, flush=True)

    header, *_ = TUNED.read_text(encoding="utf-8").split("\n[[chosen]]\n")
    rows = rows_of_others(TUNED.read_text(encoding="utf-8"), [tried[0][1] for tried in searched.values()])
    for method, tried in searched.items():
        scores = [RunFolder(args.out, s.hash).read_result()["val"]["best"]["mr"] for _, s in tried]
        best = max(range(len(tried)), key=lambda i: (scores[i], -i))
        print(f"{method}: {tried[best][0]} (val mR {scores[best]:.2f}) of " + ", ".join(f"{s:.2f}" for s in scores))
        rows.append(toml_row(tried[best][1], tried[best][0], scores[best], len(tried)))
    write_atomic(TUNED, (header.rstrip() + "\n" + "".join(rows)).encode())


if __name__ == "__main__":
    main()
