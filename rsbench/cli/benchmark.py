"""Published tables on the command line: the flags they take, their plan, and what cannot run."""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsbench.cli.console import console, print_rows, progress_bar
from rsbench.errors import UsageError

if TYPE_CHECKING:
    from rsbench.experiment.benchmarks import Benchmark, Changes, Line

FIXED = ("method", "split", "noise_kind", "noise_unit", "noise_source", "noise_seed")
"""Flags that a table fixes itself."""

FREE = ("backbone", "tuning", "weights", "recipe", "precision", "scorer", "pmp_threshold", "pmp_quantile")
"""Flags that change a field of every run."""

Group = tuple[str, str, str, tuple[str, ...]]


def open_table(asked: dict[str, Any]) -> Benchmark:
    """The table that was asked for, resolved.

    Args:
        asked: parameters of ``rsbench run``; ``typed`` holds the names of those that were given.

    Raises:
        UsageError: a flag that the table fixes itself, or that leaves nothing of it.
        UnknownNameError: no such table.
    """
    from rsbench.data.root import data_root
    from rsbench.experiment.benchmarks import load_benchmark, resolve_benchmark

    root = data_root(asked["root"])
    table = load_benchmark(asked["benchmark"], root, _changes(asked))
    with progress_bar() as progress:
        return resolve_benchmark(table, root, progress)


def _changes(asked: dict[str, Any]) -> Changes:
    from rsbench.experiment.benchmarks import Changes
    from rsbench.experiment.request import parse_rates, parse_seeds, parse_settings, split_list

    typed: frozenset[str] = asked["typed"]
    if fixed := [_flag(name) for name in FIXED if name in typed]:
        raise UsageError(
            f"--benchmark {asked['benchmark']} and {', '.join(fixed)} contradict each other; "
            "a table names its methods, splits and noise itself: drop one of them"
        )
    fields: dict[str, Any] = {name: asked[name] for name in FREE if name in typed}
    if "settings" in typed:
        fields["settings"] = parse_settings(asked["settings"])
    if "seed_list" in typed:
        fields["seeds"] = parse_seeds(1, asked["seed_list"])
    if asked["validation_only"]:
        fields["held_out"] = False
    return Changes(
        datasets=split_list(asked["dataset"] or ""),
        rates=parse_rates(asked["noise"]) if "noise" in typed else (),
        seeds=asked["seeds"] if "seeds" in typed else None,
        fields=fields,
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def table_line(asked: dict[str, Any]) -> str:
    """The command that plans the same runs again."""
    words = ["rsbench", "run", "--benchmark", asked["benchmark"]]
    for name in ("dataset", "noise", "seeds", "seed_list", *FREE):
        words += [_flag(name), str(asked[name])] if name in asked["typed"] else []
    words += [w for item in asked["settings"] or [] for w in ("--set", item)]
    words += ["--validation-only"] if asked["validation_only"] else []
    return shlex.join([*words, "--out", str(asked["out"])])


def show_table(table: Benchmark) -> None:
    """Print what the table is, how it is read, and its rows that cannot run."""
    console.print(
        f"{table.name}: {table.paper.name} ({table.paper.venue}), table {table.table}; "
        f"{len(table.runnable)} of {len(table.lines)} rows can run here",
        markup=False,
        soft_wrap=True,
    )
    for what, words in (("read as", table.decided), ("not as published", table.changed), ("weights", _hub(table))):
        if words:
            console.print(f"{what}: {'; '.join(words)}", markup=False, soft_wrap=True)
    left = grouped(line for line in table.lines if line.reasons)
    if left:
        print_rows(("cannot run", "dataset", "noise", "why"), [(*group[:3], "; ".join(group[3])) for group in left])


def require_runs(table: Benchmark) -> None:
    """Refuse to run a table of which nothing can run.

    Raises:
        UsageError: every row has a reason against it.
    """
    if not table.specs:
        raise UsageError(
            f"no row of {table.name} can run here, for the reasons above; --dataset, --backbone and --recipe take what "
            "is there in the place of what is published"
        )


def table_lines(table: Benchmark) -> dict[str, Any]:
    """A table row by row, as JSON types."""
    notes = {"decided": list(table.decided), "changed": list(table.changed)}
    return {**table_facts(table), **notes, "lines": [line_facts(line) for line in table.lines]}


def _hub(table: Benchmark) -> list[str]:
    names = {s.backbone for s in table.specs if s.weights == "hub"}
    return [f"those of {name} come from its hub; --weights FILE takes a local copy" for name in sorted(names)]


def grouped(lines: Iterable[Line]) -> list[Group]:
    """Rows that differ in noise rate alone, as one: label, dataset, rates, reasons."""
    found: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for line in lines:
        key = (line.row.title, ",".join(line.request.datasets), line.reasons)
        found.setdefault(key, []).append(noise_of(line))
    return [
        (title, dataset, ",".join(dict.fromkeys(rates)), reasons) for (title, dataset, reasons), rates in found.items()
    ]


def noise_of(line: Line) -> str:
    """The noise of a row in a word."""
    return line.row.noise_kind if line.row.noise_rate is None else f"{line.row.noise_rate:g}"


def line_facts(line: Line) -> dict[str, Any]:
    """A row as JSON types: what is printed, what stands for it here, and why it cannot run."""
    row = line.row
    return {
        "source": row.source,
        "label": row.title,
        "dataset": ",".join(line.request.datasets),
        "noise": noise_of(line),
        "method": line.request.methods[0],
        "backbone": line.request.backbone or None,
        "printed": dict(row.printed),
        "marks": [{"kind": m.kind, "reason": m.reason} for m in row.marks],
        "reasons": list(line.reasons),
        "runs": [s.hash for s in line.specs],
    }


def table_facts(table: Benchmark) -> dict[str, Any]:
    """A table in short, as JSON types."""
    rows = [line.row for line in table.lines]
    kinds = {r.noise_kind for r in rows} - {"none"} or {"none"}
    return {
        "name": table.name,
        "paper": f"{table.paper.name} ({table.paper.venue})",
        "table": table.table,
        "datasets": list(dict.fromkeys(r.dataset for r in rows)),
        "noise": ", ".join(sorted(kinds)),
        "rates": sorted({r.noise_rate for r in rows if r.noise_rate is not None}),
        "rows": len(rows),
        "runnable": len(table.runnable),
    }


def list_tables(pattern: str, root: Path) -> list[dict[str, Any]]:
    """The tables whose name matches, as rows of ``rsbench list``.

    Args:
        pattern: shell wildcard on names.
        root: data root, for what can run.
    """
    from rsbench.experiment.benchmarks import benchmark_names, load_benchmark

    found = []
    for name in benchmark_names():
        if fnmatch.fnmatchcase(name, pattern):
            facts = table_facts(load_benchmark(name, root))
            rates = ",".join(f"{r:g}" for r in facts["rates"] if facts["noise"] != "none")
            summary = f"{facts['paper']}: {', '.join(facts['datasets'])}; noise {facts['noise']} {rates}".rstrip()
            found.append({**facts, "summary": summary, "state": f"{facts['runnable']} of {facts['rows']} rows"})
    return found


def describe_table(name: str, root: Path) -> dict[str, Any]:
    """Everything known of a table, for ``rsbench describe``.

    Args:
        name: ``PAPER-tableN``.
        root: data root, for what can run.
    """
    from rsbench.experiment.benchmarks import load_benchmark

    table = load_benchmark(name, root)
    ready = [f"{title}: {dataset}, noise {rates}" for title, dataset, rates, _ in grouped(table.runnable)]
    left = grouped(line for line in table.lines if line.reasons)
    return {
        **table_facts(table),
        "decided": list(table.decided),
        "can_run": ready,
        "cannot_run": [f"{title}: {dataset}, noise {rates}: {'; '.join(why)}" for title, dataset, rates, why in left],
        "marks": list(dict.fromkeys(f"row {r.row} ({r.title}): {m.reason}" for r in _rows(table) for m in r.marks)),
    }


def _rows(table: Benchmark) -> list[Any]:
    return [line.row for line in table.lines]
