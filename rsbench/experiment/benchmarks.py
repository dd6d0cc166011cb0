"""Published tables by name: each row as runs of ours, or the reasons why it cannot run. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rsbench.data.card import DatasetCard
from rsbench.data.lifecycle import is_packed
from rsbench.errors import RsbenchError, UnknownNameError, UsageError
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve, split_variant
from rsbench.experiment.spec import RunSpec
from rsbench.progress import Progress, silent
from rsbench.registry import BACKBONES, DATASETS, METHODS, NOISE_KINDS, Registry
from rsbench.results.published import Paper, PublishedRow, load_published, papers
from rsbench.results.published_names import counterpart, decided, own_dataset

PMP_ONLY = ("scorer", "pmp_threshold", "pmp_quantile")
"""Fields of a request that only rows with pseudo-matched pairs take."""

SILENT = ("seeds", "held_out", "settings", *PMP_ONLY)
"""Fields whose change is no departure from what is published, or is told otherwise."""


@dataclass(frozen=True)
class Changes:
    """What a user wants otherwise than published.

    Attributes:
        datasets: names of the table keep those rows alone; other names take the place of the published ones.
        rates: noise rates of the table to keep, empty for all.
        seeds: number of the paper's seeds to run, None for all.
        fields: other fields of every ``Request``, such as ``backbone`` or ``seeds`` (a list by name).
    """

    datasets: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    seeds: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A row of a published table and what becomes of it here.

    Attributes:
        request: the runs it stands for; its names need not exist yet.
        reasons: why it cannot run; empty when it can.
        specs: its runs, once resolved.
    """

    row: PublishedRow
    request: Request
    reasons: tuple[str, ...] = ()
    specs: tuple[RunSpec, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A published table as a set of runs.

    Attributes:
        table: its number in the paper.
        lines: one per row, in printed order; two for a row that is asked on two datasets.
        decided: readings of what the paper leaves open.
        changed: what is not as published, in words.
    """

    name: str
    paper: Paper
    table: int
    lines: tuple[Line, ...]
    decided: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def runnable(self) -> list[Line]:
        """Lines that nothing is known to speak against."""
        return [line for line in self.lines if not line.reasons]

    @property
    def specs(self) -> list[RunSpec]:
        """Every run once: rows that repeat each other share theirs."""
        return list({s.hash: s for line in self.lines for s in line.specs}.values())


def benchmark_names() -> list[str]:
    """Names of the tables, ``PAPER-tableN``."""
    return list(dict.fromkeys(row.benchmark for row in load_published()))


def load_benchmark(name: str, root: Path, changes: Changes = Changes()) -> Benchmark:
    """A table with the reasons that names, files and cards alone give; nothing is opened.

    Args:
        name: ``PAPER-tableN``.
        root: data root, for what is prepared.
        changes: what is wanted otherwise than published.

    Raises:
        UnknownNameError: no such table, or a change names a dataset or backbone that nobody registers.
        UsageError: changes that leave nothing of the table, or more seeds than the paper ran.
    """
    if name not in benchmark_names():
        raise UnknownNameError("benchmark", name, benchmark_names(), "see `rsbench list benchmarks`")
    rows = [row for row in load_published() if row.benchmark == name]
    if changes.fields.get("backbone"):
        BACKBONES.entry(changes.fields["backbone"])
    names = {own_dataset(row.dataset) for row in rows}
    requests = [(row, request) for row in rows for request in _requests(row, names, changes)]
    if not requests:
        raise UsageError(f"nothing of {name} is left: {_offer(rows)}")
    lines = tuple(Line(row, request, _faults(row, request, root)) for row, request in requests)
    return Benchmark(name, papers()[rows[0].paper], rows[0].table, lines, decided(rows[0].paper), _told(changes, names))


def resolve_benchmark(benchmark: Benchmark, root: Path, progress: Progress = silent) -> Benchmark:
    """Resolve what may run; what turns out not to gets the error as its reason.

    Args:
        benchmark: from ``load_benchmark``.
        root: data root.
        progress: called while data or noise lists are made.
    """
    return replace(benchmark, lines=tuple(_resolved(line, root, progress) for line in benchmark.lines))


def _resolved(line: Line, root: Path, progress: Progress) -> Line:
    if line.reasons:
        return line
    try:
        return replace(line, specs=tuple(resolve(line.request, root, progress)))
    except RsbenchError as error:
        return replace(line, reasons=(str(error),))


def _requests(row: PublishedRow, names: set[str], changes: Changes) -> list[Request]:
    """The row as published, with the changes; none where the changes leave it out.

    Args:
        row: of the table.
        names: our names of the table's datasets.
        changes: what is wanted otherwise.
    """
    if changes.rates and row.noise_rate not in changes.rates:
        return []
    fields = {k: v for k, v in changes.fields.items() if row.noise_kind == "pmp" or k not in PMP_ONLY}
    changed = replace(_as_published(row, changes.seeds), **fields)
    wanted = tuple(own_dataset(name) for name in changes.datasets)
    if not wanted or set(wanted) <= names:
        return [changed] if own_dataset(row.dataset) in (wanted or names) else []
    if set(wanted) & names:
        raise UsageError(
            f"--dataset {','.join(changes.datasets)}: give datasets of {row.benchmark} ({', '.join(sorted(names))}), "
            "or others in their place, not both"
        )
    return [replace(changed, datasets=(DATASETS.entry(name).name,), split=None) for name in wanted]


def _as_published(row: PublishedRow, seeds: int | None) -> Request:
    ours = counterpart(row)
    return Request(
        methods=(ours.method,),
        datasets=(ours.dataset,),
        rates=(ours.rate,),
        seeds=ours.seeds[: _count(ours.seeds, seeds)],
        split=ours.split,
        kind="shuffle" if ours.kind == "none" else ours.kind,
        backbone=ours.backbone,
        recipe="paper",
    )


def _count(seeds: Sequence[int], wanted: int | None) -> int:
    if wanted is None:
        return len(seeds)
    if not 1 <= wanted <= len(seeds):
        raise UsageError(f"--seeds {wanted}: this paper ran {len(seeds)}; give 1 to {len(seeds)}, or --seed-list")
    return wanted


def _faults(row: PublishedRow, request: Request, root: Path) -> tuple[str, ...]:
    """Everything that is known to keep a row from running."""
    method = _method_fault(request)
    found = [
        method,
        *(_dataset_fault(name, root) for name in request.datasets),
        _absent(NOISE_KINDS, request.kind),
        _backbone_fault(row, request) if request.backbone or not method else None,
    ]
    return tuple(fault for fault in found if fault)


def _absent(registry: Registry, name: str) -> str | None:
    """Why a name cannot be used: nobody registers it, or its extra is not installed."""
    if name not in registry.names():
        return f"{registry.kind} '{name}' is not implemented yet"
    try:
        registry.load(name)
    except (RsbenchError, ImportError) as error:
        return str(error)
    return None


def _method_fault(request: Request) -> str | None:
    name, variant = split_variant(request.methods[0])
    if fault := _absent(METHODS, name):
        return fault
    card = METHODS.load(name)
    if variant not in card.variants:
        return f"no variant of method '{name}' is known for '{variant}'"
    if request.recipe == "paper" and not card.paper_recipe:
        return f"method '{name}' has no published recipe; --recipe common runs it"
    return None


def _dataset_fault(name: str, root: Path) -> str | None:
    if fault := _absent(DATASETS, name):
        return fault
    card: DatasetCard = DATASETS.load(name)
    if card.generated or is_packed(root, card.base or name):
        return None
    return f"dataset '{name}' is not prepared: rsbench prepare {name}"


def _backbone_fault(row: PublishedRow, request: Request) -> str | None:
    if request.backbone:
        return _absent(BACKBONES, request.backbone)
    return f"{papers()[row.paper].name} states no backbone for {row.label or 'this row'}; give --backbone"


def _told(changes: Changes, names: set[str]) -> tuple[str, ...]:
    """What is not as published, in words."""
    others = [n for n in changes.datasets if own_dataset(n) not in names]
    told = [f"dataset {','.join(others)}"] if others else []
    told += [f"{k} {v}" for k, v in changes.fields.items() if k not in SILENT]
    told += [f"{k}={','.join(v)}" for k, v in changes.fields.get("settings", {}).items()]
    return tuple(told)


def _offer(rows: Sequence[PublishedRow]) -> str:
    rates = ", ".join(f"{r:g}" for r in sorted({r.noise_rate for r in rows if r.noise_rate is not None}))
    return f"it has noise rates {rates or 'none'}"
