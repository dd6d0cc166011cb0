"""Training costs as a paper printed them, in the form of our own cost tables. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from rsbench.report.table import EMPTY, Cell, Column, Row, Table
from rsbench.results.published import load_costs, papers

MEASURES = {
    "filtration_time": Column("filter", "Filtration, s/epoch", number=True),
    "training_time": Column("train", "Training, s/epoch", number=True),
    "gpu_memory": Column("memory", "Memory, MB", number=True),
}
"""Printed measures by their names in ``published/efficiency.csv``."""

Values = dict[str, dict[str, str]]
"""Label of a method -> measure -> printed value."""


def printed_costs(against: str | None = None) -> list[Table]:
    """One table per paper, table, dataset and hardware that printed costs; ratios to one of its methods.

    Args:
        against: base method of the ratios where the table has it, else the paper's own method.
    """
    records: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for record in load_costs():
        records[record["paper"], record["table"], record["dataset"], record["hardware"]].append(record)
    return [_table(key, found, against) for key, found in records.items()]


def _table(key: Sequence[str], records: Sequence[Mapping[str, str]], against: str | None) -> Table:
    paper, number, dataset, hardware = key
    values: Values = defaultdict(dict)
    for record in records:
        values[record["method"]][record["metric"]] = record["value"]
    base = against if against in values else paper
    measures = [m for m in MEASURES if any(m in v for v in values.values())]
    ratios = [m for m in measures if float(values[base].get(m, 0))]
    over = [
        Column(f"{MEASURES[m].key}_ratio", f"{MEASURES[m].title.partition(',')[0]}, ratio", number=True) for m in ratios
    ]
    rows = [
        Row((Cell(name), *_printed(mine, measures), *_ratios(mine, values[base], ratios)))
        for name, mine in values.items()
    ]
    title = f"printed cost on {dataset}: {papers()[paper].name}, table {number}"
    notes = (
        "; ".join(dict.fromkeys(f"{r['unit']} per {r['per']}" for r in records)) + f"; on {hardware}",
        f"ratio: over {base} of the same table; seconds of another machine, dataset and batch do not compare with ours",
    )
    return Table(title, (Column("method", "Method"), *(MEASURES[m] for m in measures), *over), tuple(rows), notes)


def _printed(mine: Mapping[str, str], measures: Sequence[str]) -> Iterator[Cell]:
    for measure in measures:
        yield Cell(mine[measure], float(mine[measure])) if measure in mine else EMPTY


def _ratios(mine: Mapping[str, str], base: Mapping[str, str], measures: Sequence[str]) -> Iterator[Cell]:
    for measure in measures:
        if measure not in mine:
            yield EMPTY
            continue
        ratio = float(mine[measure]) / float(base[measure])
        yield Cell(f"{ratio:.2f}", ratio)
