"""``rsbench run``: a grid of runs, missing ones only."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from rsbench.cli.asking import Asked, plan_of, resolved_line, typed_parts
from rsbench.cli.benchmark import require_runs, show_table
from rsbench.cli.console import console, errors
from rsbench.cli.launching import launch_plan, launcher_of
from rsbench.cli.plan import share_flags, show_impossible, show_plan
from rsbench.cli.together import in_step
from rsbench.cli.weights import warn_of_weights
from rsbench.errors import ResultError, RsbenchError

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
Tuning = Annotated[str | None, typer.Option(help="Tuning: heads, full, lora; default: the dataset's.")]
Weights = Annotated[str | None, typer.Option(help="Weights: bundled, hub, random or a local file.")]
RecipeOption = Annotated[str, typer.Option(help="Recipe: common (the house's) or paper (as published).")]
Precision = Annotated[str, typer.Option(help="Precision: auto, fp32, bf16 or fp16.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Field to set, such as method.tau=0.05; values with commas span a grid."),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--grid", "--config", "-c", help="Grid file in TOML: these flags, [matrix], [[exclude]]; typed ones win."
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Results folder.")]
Root = Annotated[Path | None, typer.Option(help="Data folder; default: $RSBENCH_DATA, else ~/.cache/rsbench.")]
ValidationOnly = Annotated[bool, typer.Option("--validation-only", help="Never read the test part (for searches).")]
Overwrite = Annotated[str, typer.Option(help="never: leave folders that exist; missing: resume; always: run anew.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", help="Worker processes; 0 = one per core, one per GPU.")]
Launcher = Annotated[str, typer.Option(help="Where runs are done: local, ray, slurm (`rsbench list launchers`).")]
Launch = Annotated[
    list[str] | None, typer.Option(help="Settings of the launcher, such as per_gpu=2 (`rsbench describe local`).")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")]
NoWeights = Annotated[bool, typer.Option("--no-weights", help="Do not keep the best weights.")]


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
    launcher: Launcher = "local",
    launch: Launch = None,
    device: Device = "auto",
    dry_run: DryRun = False,
    no_weights: NoWeights = False,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate methods under noise; finished runs are kept, killed ones resumed.

    rsbench run --method srem --noise 0.4 --seeds 5
    """
    in_step(lambda: typed_parts(context, config), lambda parts: _carry_out(parts, dry_run))


share_flags(run)


def _carry_out(parts: list[Asked], dry_run: bool) -> None:
    asked = parts[0]
    launcher_of(asked)  # its settings are checked before anything else takes time
    planned = plan_of(parts)
    if dry_run:
        show_plan(planned, asked)
        return
    if planned.published:
        show_table(planned.published)
        require_runs(planned.published)
    show_impossible(planned)
    console.print(resolved_line(parts, planned), markup=False, soft_wrap=True)
    warn_of_weights((j.spec.backbone, j.spec.weights) for j in planned.jobs)
    unfinished = launch_plan(planned.jobs, asked)
    _print_table([j.spec.hash for j in planned.jobs], asked["out"])
    if unfinished or planned.problems:
        raise typer.Exit(1)


def _print_table(hashes: list[str], out: Path) -> None:
    from rsbench.report.build import build_tables
    from rsbench.report.text import show
    from rsbench.results.store import RunFolder

    results = []
    for folder in (RunFolder(out, name) for name in hashes):
        with contextlib.suppress(ResultError):  # a damaged one was told as impossible
            results += [folder.read_result()] if folder.result.exists() else []
    try:
        show(console, build_tables(results))
    except RsbenchError as error:  # every run failed: the reasons are above
        errors.print(str(error))
