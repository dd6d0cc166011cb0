"""``rsbench run`` and ``rsbench plan``: a grid of runs, missing ones only."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsbench.cli.benchmark import open_table, require_runs, show_table, table_line, table_lines
from rsbench.cli.console import console, errors, print_rows, progress_bar
from rsbench.errors import BusyError, RsbenchError, UsageError

if TYPE_CHECKING:
    from rsbench.experiment.benchmarks import Benchmark
    from rsbench.experiment.plan import Job
    from rsbench.experiment.request import Request
    from rsbench.experiment.spec import RunSpec

Method = Annotated[
    str | None, typer.Option("--method", "-m", help="Methods: NAME, NAME:VARIANT or FILE.py, separated by commas.")
]
Table = Annotated[
    str | None, typer.Option("--benchmark", help="A published table in place of --method (`rsbench list benchmarks`).")
]
Datasets = Annotated[
    str | None, typer.Option("--dataset", "-d", help="Datasets; default: the one prepared last, else toy.")
]
Noise = Annotated[str, typer.Option("--noise", "-n", help="Noise rates in [0, 1), separated by commas.")]
Seeds = Annotated[int, typer.Option("--seeds", "-s", help="Number of run seeds: 0 to N-1.")]
SeedList = Annotated[str | None, typer.Option(help="Run seeds by name, such as 3,13,25.")]
Split = Annotated[str | None, typer.Option(help="Split scheme; default: the dataset's.")]
Kind = Annotated[str, typer.Option(help="Noise kind: none, shuffle, pmp or real.")]
Unit = Annotated[str, typer.Option(help="Noise unit: caption or image.")]
Source = Annotated[str | None, typer.Option(help="Noise list: official, generated or file:NAME.")]
NoiseSeed = Annotated[str, typer.Option(help="Seed of generated noise, or per-run.")]
ScorerOption = Annotated[
    str | None,
    typer.Option(help="Scorer of noise kind pmp: georsclip[:FILE], openclip:MODEL/TAG or run:PATH of a finished run."),
]
PmpThreshold = Annotated[float | None, typer.Option(help="Kind pmp: take captions that score below this.")]
PmpQuantile = Annotated[
    float | None, typer.Option(help="Kind pmp: the threshold as a quantile of the scores of mismatched pairs.")
]
BackboneOption = Annotated[str | None, typer.Option("--backbone", "-b", help="Backbone; default: the dataset's.")]
Tuning = Annotated[str | None, typer.Option(help="Tuning: heads, full; default: the dataset's.")]
Weights = Annotated[str | None, typer.Option(help="Weights: bundled, hub, random or a local file.")]
RecipeOption = Annotated[str, typer.Option(help="Recipe: common (the house's) or paper (as published).")]
Precision = Annotated[str, typer.Option(help="Precision: auto, fp32, bf16 or fp16.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Field to set, such as method.tau=0.05; values with commas span a grid."),
]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file with these flags; typed flags win.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Results folder.")]
Root = Annotated[Path | None, typer.Option(help="Data folder; default: $RSBENCH_DATA, else ~/.cache/rsbench.")]
ValidationOnly = Annotated[bool, typer.Option("--validation-only", help="Never read the test part (for searches).")]
Overwrite = Annotated[str, typer.Option(help="never: leave folders that exist; missing: resume; always: run anew.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", help="Worker processes; 0 = one per core (one on a GPU).")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")]
NoWeights = Annotated[bool, typer.Option("--no-weights", help="Do not keep the best weights.")]

PMP_FLAGS = ("scorer", "pmp_threshold", "pmp_quantile")
"""Flags of noise kind ``pmp``."""

PLAIN = ("split", "noise_seed", *PMP_FLAGS, "backbone", "tuning", "weights", "recipe", "precision")
"""Flags that a request takes as typed."""

FLAG_OF_KEY = {"set": "settings"}
"""Config keys whose parameter has another name."""


def run(
    context: typer.Context,
    method: Method = None,
    benchmark: Table = None,
    dataset: Datasets = None,
    noise: Noise = "0",
    seeds: Seeds = 1,
    seed_list: SeedList = None,
    split: Split = None,
    noise_kind: Kind = "shuffle",
    noise_unit: Unit = "caption",
    noise_source: Source = None,
    noise_seed: NoiseSeed = "42",
    scorer: ScorerOption = None,
    pmp_threshold: PmpThreshold = None,
    pmp_quantile: PmpQuantile = None,
    backbone: BackboneOption = None,
    tuning: Tuning = None,
    weights: Weights = None,
    recipe: RecipeOption = "common",
    precision: Precision = "auto",
    settings: Settings = None,
    config: Config = None,
    out: Out = Path("results"),
    root: Root = None,
    validation_only: ValidationOnly = False,
    overwrite: Overwrite = "missing",
    jobs: Jobs = 0,
    device: Device = "auto",
    dry_run: DryRun = False,
    no_weights: NoWeights = False,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate methods under noise; finished runs are kept, killed ones resumed.

    rsbench run --method srem --noise 0.4 --seeds 5
    """
    asked = _typed(context, config)
    planned, published = _plan(asked)
    if dry_run:
        _show_plan(planned, as_json, published)
        return
    if published:
        show_table(published)
        require_runs(published)
    console.print(_resolved_line(asked, [j.spec for j in planned]), markup=False, soft_wrap=True)
    failed = launch_plan(planned, asked)
    _print_table(planned, asked["out"])
    if failed:
        raise typer.Exit(1)


RUN_ONLY = ("jobs", "device", "dry_run", "no_weights")
"""Flags of ``run`` that mean nothing to ``plan``."""


def plan(context: typer.Context, **flags: object) -> None:
    """Show the runs that `rsbench run` with the same flags would do, with their state."""
    planned, published = _plan(_typed(context, context.params["config"]))
    _show_plan(planned, bool(flags["as_json"]), published)


def _share_flags() -> None:
    """Give ``plan`` the flags of ``run``: one list of flags for both."""
    signature = inspect.signature(run, eval_str=True)
    kept = [p for p in signature.parameters.values() if p.name not in RUN_ONLY]
    plan.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    plan.__annotations__ = {p.name: p.annotation for p in kept}


_share_flags()


def _typed(context: typer.Context, config: Path | None) -> dict[str, Any]:
    """The command's parameters; a config file fills in what was not typed."""
    from rsbench.experiment.request import read_config

    asked = dict(context.params)
    sources = {name: context.get_parameter_source(name) for name in asked}
    typed = {n for n, s in sources.items() if s is not None and s.name != "DEFAULT"}  # typer's own enum, not click's
    for key, value in (read_config(config) if config else {}).items():
        name = FLAG_OF_KEY.get(key, key)
        if name not in typed:
            asked[name] = Path(value) if name == "out" else value
            typed.add(name)
    asked["typed"] = frozenset(typed)
    return asked


def _request(asked: dict[str, Any]) -> Request:
    from rsbench.experiment.request import Request, parse_rates, parse_seeds, parse_settings, split_list

    if not asked["method"]:
        raise UsageError("no method given; type for example --method srem (see `rsbench list methods`)")
    return Request(
        methods=split_list(asked["method"]),
        datasets=split_list(asked["dataset"] or ""),
        rates=parse_rates(asked["noise"]),
        seeds=parse_seeds(asked["seeds"], asked["seed_list"]),
        kind=asked["noise_kind"],
        unit=asked["noise_unit"],
        source=asked["noise_source"],
        held_out=not asked["validation_only"],
        settings=parse_settings(asked["settings"] or []),
        **{name: asked[name] for name in PLAIN},
    )


def _plan(asked: dict[str, Any]) -> tuple[list[Job], Benchmark | None]:
    """The jobs, and the published table they belong to, if one was asked for."""
    from rsbench.data.root import data_root
    from rsbench.experiment.plan import make_plan
    from rsbench.experiment.resolve import resolve

    if asked["benchmark"]:
        published = open_table(asked)
        return make_plan(published.specs, asked["out"], asked["overwrite"]), published
    with progress_bar() as progress:
        specs = resolve(_request(asked), data_root(asked["root"]), progress)
    return make_plan(specs, asked["out"], asked["overwrite"]), None


def _show_plan(jobs: list[Job], as_json: bool, published: Benchmark | None) -> None:
    from rsbench.cli.live import label
    from rsbench.experiment.plan import counts

    if as_json:
        rows = [{"hash": j.spec.hash, "state": j.state, "todo": j.todo, "spec": j.spec.as_dict()} for j in jobs]
        print(json.dumps(rows if published is None else {**table_lines(published), "jobs": rows}, indent=1))
        return
    lines = [[j.spec.hash, label(j), j.state, "yes" if j.todo else "no"] for j in jobs]
    if lines:
        print_rows(("run", "what", "state", "will run"), lines)
    states = ", ".join(f"{n} {state}" for state, n in counts(jobs).items())
    console.print(f"{len(jobs)} runs: {states or 'none'}; {sum(j.todo for j in jobs)} to do")
    if published:
        show_table(published)


def _resolved_line(asked: dict[str, Any], specs: list[RunSpec]) -> str:
    """The whole grid as one command with nothing left to defaults; a published table says the rest by its name."""
    if asked["benchmark"]:
        return table_line(asked)

    def listed(values: list[Any]) -> str:
        return ",".join(dict.fromkeys(str(v) for v in values))

    noisy = [s.noise for s in specs if s.noise.rate > 0] or [specs[0].noise]
    parts = {
        "dataset": listed([s.dataset for s in specs]),
        "split": listed([s.split for s in specs]),
        "method": listed([s.method if s.variant == "full" else f"{s.method}:{s.variant}" for s in specs]),
        "noise": listed([f"{s.noise.rate:g}" for s in specs]),
        "noise-kind": asked["noise_kind"],
        "noise-unit": listed([n.unit for n in noisy]),
        "noise-source": listed([n.source for n in noisy]),
        "noise-seed": asked["noise_seed"],
        "backbone": listed([s.backbone for s in specs]),
        "tuning": listed([s.tuning for s in specs]),
        "weights": listed([s.weights for s in specs]),
        "recipe": asked["recipe"],
        "precision": listed([s.precision for s in specs]),
        "seed-list": listed([s.seed for s in specs]),
        "out": asked["out"],
    }
    drawn = {k: asked[k] for k in PMP_FLAGS if asked[k] is not None}
    parts |= {k.replace("_", "-"): v for k, v in drawn.items()}
    words = [w for key, value in parts.items() for w in (f"--{key}", str(value))]
    words += [w for item in asked["settings"] or [] for w in ("--set", item)]
    words += ["--validation-only"] if asked["validation_only"] else []
    return shlex.join(["rsbench", "run", *words])


def launch_plan(planned: list[Job], asked: dict[str, Any]) -> int:
    """Run what is to do; the number of failures."""
    todo = [j for j in planned if j.todo]
    kept = len(planned) - len(todo)
    if kept:
        console.print(f"{kept} of {len(planned)} runs are kept as they are (--overwrite {asked['overwrite']})")
    if not todo:
        return 0
    from rsbench.cli.live import GridView
    from rsbench.data.root import data_root
    from rsbench.experiment.run import Options
    from rsbench.registry import LAUNCHERS

    options = Options(data_root(asked["root"]), asked["out"], asked["device"], not asked["no_weights"])
    slots = _slots(asked["jobs"], asked["device"], len(todo))
    _warm_up(todo, options)
    view, unfinished = GridView(todo), []
    with view.shown():
        for outcome in LAUNCHERS.load("local")(todo, options, slots, view.notify):
            view.close(outcome)
            unfinished += [outcome] if outcome.status != "done" else []
    failed = len(unfinished)
    if failed and all(o.status == "busy" for o in unfinished):
        raise BusyError(unfinished[0].error)
    if failed:
        errors.print(f"{failed} of {len(todo)} runs did not finish; the same command tries them again")
    return failed


def _slots(jobs: int, device: str, todo: int) -> int:
    if jobs < 0:
        raise UsageError(f"--jobs {jobs}: give the number of worker processes, or 0 for one per core")
    if jobs == 0:
        from rsbench.training.device import choose_device

        jobs = 1 if choose_device(device).type == "cuda" else len(os.sched_getaffinity(0))
    return min(jobs, todo)


def _warm_up(todo: list[Job], options: Any) -> None:
    """Compute features once, with all cores and a progress bar, and meet missing weights before any run starts."""
    from rsbench.experiment.run import Options, materials
    from rsbench.training.device import choose_device

    assert isinstance(options, Options)
    choose_device(options.device)
    first = {dataclasses.replace(j.spec, seed=0).hash: j.spec for j in todo}
    with progress_bar() as progress:
        for spec in first.values():
            materials(spec, options.root, progress)


def _print_table(planned: list[Job], out: Path) -> None:
    from rsbench.report.build import build_tables
    from rsbench.report.text import show
    from rsbench.results.store import RunFolder

    folders = [RunFolder(out, j.spec.hash) for j in planned]
    results = [f.read_result() for f in folders if f.result.exists()]
    try:
        show(console, build_tables(results))
    except RsbenchError as error:  # every run failed: the reasons are above
        errors.print(str(error))
