"""From the words of ``rsbench run`` and ``plan``, and a grid file, to jobs. No torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rsbench.cli.benchmark import open_table, table_line
from rsbench.cli.console import progress_bar, say_error
from rsbench.errors import RsbenchError, UsageError

if TYPE_CHECKING:
    from rsbench.experiment.benchmarks import Benchmark
    from rsbench.experiment.plan import Job
    from rsbench.experiment.request import Request
    from rsbench.experiment.resolve import Problem

PMP_FLAGS = ("scorer", "pmp_threshold", "pmp_quantile")
"""Flags of noise kind ``pmp``."""

PLAIN = ("split", "noise_seed", *PMP_FLAGS, "backbone", "tuning", "weights", "recipe", "precision")
"""Flags that a request takes as typed."""

FLAG_OF_KEY = {"set": "settings"}
"""Keys of a grid file whose parameter has another name."""

Asked = dict[str, Any]
"""The command's parameters by name; ``typed`` holds the names of those that were given."""


@dataclass(frozen=True)
class Planned:
    """What a command line comes to.

    Attributes:
        jobs: every run once.
        problems: what was asked for and cannot be.
        published: the published table that the runs belong to, if one was asked for.
    """

    jobs: list[Job]
    problems: list[Problem]
    published: Benchmark | None = None


def typed_parts(context: typer.Context, path: Path | None) -> list[Asked]:
    """The command's parameters, for each part of the grid file; one part where there is none.

    Args:
        context: of the command.
        path: grid file; what was typed wins over it.

    Raises:
        UsageError: the file cannot be used.
    """
    from rsbench.experiment.grid import read_grid
    from rsbench.experiment.request import CONFIG_KEYS

    asked = dict(context.params)
    sources = {name: context.get_parameter_source(name) for name in asked}
    typed = {n for n, s in sources.items() if s is not None and s.name != "DEFAULT"}  # typer's own enum, not click's
    if path is None:
        return [{**asked, "typed": frozenset(typed)}]
    given = {k: asked[FLAG_OF_KEY.get(k, k)] for k in CONFIG_KEYS if FLAG_OF_KEY.get(k, k) in typed}
    parts = read_grid(path).parts(given)
    if not parts:
        raise UsageError(f"{path}: the exclusions take every cell of [matrix] out")
    return [_with({**asked, "over": _words(given)}, typed, part) for part in parts]


def _words(given: dict[str, Any]) -> list[str]:
    """Flags as they were typed over a grid file."""
    found: list[str] = []
    for key, value in given.items():
        for item in value if isinstance(value, list) else [value]:
            found += [f"--{key.replace('_', '-')}", str(item)]
    return found


def _with(asked: Asked, typed: set[str], part: dict[str, Any]) -> Asked:
    values = {FLAG_OF_KEY.get(k, k): Path(v) if k == "out" else v for k, v in part.items()}
    return {**asked, **values, "typed": frozenset(typed | set(values))}


def plan_of(parts: Sequence[Asked]) -> Planned:
    """The jobs, and everything that cannot be, before the first run starts.

    Raises:
        RsbenchError: the one thing that is wrong with the words, or that keeps every run from being possible.
        typer.Exit: several such things; each is told in a line of its own.
    """
    from rsbench.experiment.plan import IMPOSSIBLE, make_plan

    asked = parts[0]
    if asked["benchmark"]:
        published = open_table(asked)
        return Planned(make_plan(published.specs, asked["out"], asked["overwrite"]), [], published)
    planned = _resolved(parts, asked)
    if all(job.state == IMPOSSIBLE for job in planned.jobs):
        damaged: list[RsbenchError] = [RsbenchError(job.reason) for job in planned.jobs]
        _refuse([*(p.error for p in planned.problems), *damaged])
    return planned


def _resolved(parts: Sequence[Asked], asked: Asked) -> Planned:
    from rsbench.data.root import data_root
    from rsbench.experiment.plan import make_plan
    from rsbench.experiment.resolve import resolve_all

    wrong: list[RsbenchError] = []
    requests: list[Request] = []
    for part in parts:
        try:
            requests.append(_request(part))
        except UsageError as error:
            wrong.append(error)
    with progress_bar() as progress:
        specs, problems = resolve_all(requests, data_root(asked["root"]), progress)
    wrong += [p.error for p in problems if isinstance(p.error, UsageError)]
    if wrong:
        _refuse(wrong)
    return Planned(make_plan(specs, asked["out"], asked["overwrite"]), problems)


def _refuse(wrong: Sequence[RsbenchError]) -> None:
    """Tell everything that is wrong, each once, and end with 2."""
    found = {str(error): error for error in wrong}
    *others, last = found.values()
    if not others:
        raise last
    for text in found:
        say_error(text)
    raise typer.Exit(2)


def _request(asked: Asked) -> Request:
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


def resolved_line(parts: Sequence[Asked], planned: Planned) -> str:
    """The whole grid as one command with nothing left to defaults; published tables and matrices by name."""
    asked, specs = parts[0], [job.spec for job in planned.jobs]
    if asked["benchmark"]:
        return table_line(asked)
    if len(parts) > 1:
        return shlex.join(["rsbench", "run", "--grid", str(asked["config"]), *asked["over"]])

    def listed(values: list[Any]) -> str:
        return ",".join(dict.fromkeys(str(v) for v in values))

    noisy = [s.noise for s in specs if s.noise.rate > 0] or [specs[0].noise]
    flags = {
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
    flags |= {k.replace("_", "-"): v for k, v in drawn.items()}
    words = [w for key, value in flags.items() for w in (f"--{key}", str(value))]
    words += [w for item in asked["settings"] or [] for w in ("--set", item)]
    words += ["--validation-only"] if asked["validation_only"] else []
    return shlex.join(["rsbench", "run", *words])
