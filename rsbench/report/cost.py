"""What a method costs beside a base method, as SREM, Table 4, reports it. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

from rsbench.errors import ResultError, UnknownNameError
from rsbench.report.groups import Group, by_row, method_label
from rsbench.report.table import EMPTY, Cell, Column, Row, Table, number
from rsbench.results.schema import Result

BASE = "infonce"
"""Method that others are compared with where none is named."""


class CostKey(NamedTuple):
    """What must agree for two times to be compared: the work, and the machine."""

    dataset: str
    fingerprint: str
    backbone: str
    batch_size: int
    precision: str
    device: str
    processor: str
    threads: str
    torch: str


def cost_key(result: Result) -> CostKey:
    """The table of a run."""
    spec, machine = result["spec"], result.get("environment", {})
    return CostKey(
        dataset=f"{spec['dataset']}, split {spec['split']}",
        fingerprint=str(spec.get("fingerprint", "")),
        backbone=f"{spec['backbone']} {spec['weights']} {spec['tuning']}",
        batch_size=int(spec["recipe"].get("batch_size", 0)),
        precision=str(spec.get("precision", "")),
        device=str(machine.get("device", "device not recorded")),
        processor=str(machine.get("processor", "processor not recorded")),
        threads=str(machine.get("threads", "?")),
        torch=str(machine.get("versions", {}).get("torch", "?")),
    )


def _per_epoch(part: str) -> Callable[[Result], float | None]:
    """Mean seconds of a part over the epochs that had it; None for runs that did not record parts."""

    def value(result: Result) -> float | None:
        laps = [lap[part] for lap in result.get("time", {}).get("epochs", ()) if part in lap]
        return fmean(laps) if laps else None

    return value


def _epoch(result: Result) -> float | None:
    seconds, epochs = result.get("time", {}).get("train"), result.get("epochs")
    return seconds / epochs if seconds and epochs else None


def _test(result: Result) -> float | None:
    """Seconds of one reading of the test part; it is read twice where the best epoch is not the last."""
    time = result.get("time", {})
    seconds = time.get("test", time.get("evaluate"))
    if seconds is None or "test" not in result:
        return None
    once = result.get("best_epoch") == result.get("epochs", 0) - 1
    return float(seconds) / (1 if once else 2)


Measure = tuple[Column, int, Callable[[Result], float | None]]

MEASURES: tuple[Measure, ...] = (
    (Column("filter", "Filtration, s/epoch", number=True), 3, _per_epoch("filter")),
    (Column("train", "Training, s/epoch", number=True), 3, _per_epoch("train")),
    (Column("epoch", "Whole epoch, s", number=True), 3, _epoch),
    (Column("test", "Test part, s", number=True), 3, _test),
    (Column("memory", "Peak memory, MB", number=True), 0, lambda r: r.get("environment", {}).get("memory_peak_mb")),
    (Column("trainable", "Trainable", number=True), 0, lambda r: r.get("method", {}).get("trainable")),
)
"""Columns with decimals; all but filtration, which may be 0, are also given as a ratio to the base method."""

RATIOS = ("train", "epoch", "test", "memory", "trainable")


def cost_tables(results: Sequence[Result], against: str | None = None) -> list[Table]:
    """One table per dataset, backbone, batch size, precision and machine; one row per method and noise rate.

    Args:
        results: as ``load_results`` gives them; failed ones and searches on validation are left out.
        against: base method of the ratios; ``BASE`` where a table has it by default.

    Raises:
        ResultError: no finished run.
        UnknownNameError: no run of the base method.
    """
    done = [r for r in results if r.get("status") == "done" and r["spec"].get("held_out", True)]
    if not done:
        raise ResultError(f"none of the {len(results)} runs has a cost to show; run some with: rsbench run")
    methods = {method_label(r["spec"]) for r in done}
    if against is not None and against not in methods:
        raise UnknownNameError("base method in these results", against, methods)
    found: dict[CostKey, list[Result]] = defaultdict(list)
    for result in done:
        found[cost_key(result)].append(result)
    machines = len({k[5:] for k in found})
    return [_table(key, found[key], against or BASE, machines) for key in sorted(found)]


def _table(key: CostKey, runs: Sequence[Result], against: str, machines: int) -> Table:
    groups = sorted(by_row(runs), key=lambda g: (g.key.rate, g.key.method != against, g.key.method))
    shown = [m for m in MEASURES if any(m[2](r) is not None for r in runs)]
    bases: dict[float, list[Group]] = defaultdict(list)
    for group in groups:
        if group.key.method == against:
            bases[group.key.rate].append(group)
    ratios = [m for m in shown if m[0].key in RATIOS] if bases else []
    words = _settings(groups)
    rows = [_row(g, words[i], shown, ratios, bases.get(g.key.rate, [])) for i, g in enumerate(groups)]
    labels = [Column("noise", "Noise", number=True), Column("method", "Method")]
    labels += [Column("settings", "Settings")] if any(words) else []
    over = [Column(f"{c.key}_ratio", f"{c.title.partition(',')[0]}, ratio", number=True) for c, _, _ in ratios]
    columns = (*labels, *(c for c, _, _ in shown), *over, Column("n", "n", number=True))
    if not any(words):
        rows = [Row((*r.cells[:2], *r.cells[3:]), r.block) for r in rows]
    title = f"cost on {key.dataset}, backbone {key.backbone}, batch {key.batch_size}, {key.precision}: {_machine(key)}"
    return Table(title, columns, tuple(rows), tuple(_notes(key, shown, bases, against, machines, runs)))


def _machine(key: CostKey) -> str:
    threads = f", {key.threads} thread" + ("s" if key.threads != "1" else "") + " a run" if key.device == "cpu" else ""
    place = key.processor if key.device == "cpu" else f"{key.device} with {key.processor}"
    return f"{place}{threads}, torch {key.torch}"


def _row(group: Group, words: str, shown: Sequence[Measure], ratios: Sequence[Measure], base: Sequence[Group]) -> Row:
    rate = f"{group.key.rate:g}"
    cells = [Cell(rate), Cell(group.key.method), Cell(words)]
    cells += [_cell([value(r) for r in group.runs], digits) for _, digits, value in shown]
    cells += [_ratio(group, base, value) for _, _, value in ratios]
    return Row((*cells, Cell(str(len(group.runs)))), rate)


def _cell(values: list[float | None], digits: int) -> Cell:
    """Mean ± standard deviation; a count that is the same in all runs stands alone."""
    cell = number(values, digits)
    return Cell(f"{cell.mean:.0f}", cell.mean, None, cell.n) if digits == 0 and cell.std == 0 else cell


def _ratio(group: Group, base: Sequence[Group], value: Callable[[Result], float | None]) -> Cell:
    """Mean over mean; empty where a side is not measured or several rows of the base method could be meant."""
    if len(base) != 1:
        return EMPTY
    above, below = ([value(r) for r in g.runs] for g in (group, base[0]))
    if None in above or None in below or not fmean(b for b in below if b is not None):
        return EMPTY
    ratio = fmean(a for a in above if a is not None) / fmean(b for b in below if b is not None)
    return Cell(f"{ratio:.2f}", ratio, None, len(above))


def _settings(groups: Sequence[Group]) -> list[str]:
    """For each row the settings in which it differs from other rows of its method and rate."""
    same: dict[tuple[float, str], list[Group]] = defaultdict(list)
    for group in groups:
        same[group.key.rate, group.key.method].append(group)

    def words(group: Group) -> str:
        rivals = same[group.key.rate, group.key.method]
        names = dict.fromkeys(n for g in rivals for n in g.settings)
        differ = [n for n in names if len({repr(g.settings.get(n)) for g in rivals}) > 1]
        return ", ".join(f"{n.removeprefix('params.')}={group.settings.get(n, '—')}" for n in differ)

    return [words(g) for g in groups]


def _notes(
    key: CostKey,
    shown: Sequence[Measure],
    bases: dict[float, list[Group]],
    against: str,
    machines: int,
    runs: Sequence[Result],
) -> list[str]:
    keys = {c.key for c, _, _ in shown}
    found = [
        "times compare within this table alone: the same pairs, backbone and batch on one processor, equal threads; "
        "runs that shared it with other work are slower: for a table to print, measure in one go with --jobs 1"
    ]
    if machines > 1:
        found.append(f"these results come from {machines} machines or settings of threads, one table each")
    if "filter" in keys:
        found.append(
            "filtration: the method's own pass over the training pairs before an epoch, and the division after it; "
            "training: its steps; means over epochs"
        )
    else:
        found.append("filtration and training were not recorded apart when these runs were made; train again for them")
    found.append(
        "whole epoch: filtration, training, pair records, and the validation of every "
        f"{' or '.join(_every(runs))} epoch(s), as a mean over epochs"
    )
    if "memory" in keys:
        found.append(_memory_note(key))
    if "test" in keys:
        found.append("test part: encoding it once and ranking both directions")
    if not bases:
        found.append(f"no ratios: {against} was not run here; name another base with --against")
    else:
        found.append(f"ratio: mean over the mean of {against} at the same noise rate")
    if any(len(g) > 1 for g in bases.values()):
        found.append(f"no ratios where {against} has rows of several settings")
    found.append("mean ± sample standard deviation (n-1) over the n runs of a row")
    return found


def _every(runs: Sequence[Result]) -> list[str]:
    return [str(n) for n in sorted({int(r["spec"]["recipe"].get("validate_every", 1)) for r in runs})]


def _memory_note(key: CostKey) -> str:
    if key.device != "cpu":
        return "peak memory: what torch held on the GPU while training"
    return (
        "peak memory: resident set of the process while training, interpreter, libraries and mapped features included"
    )
