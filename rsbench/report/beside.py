"""Which published rows stand for a run of ours, in what the two differ, and by how much. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rsbench.registry import DATASETS
from rsbench.report.build import metric_cell
from rsbench.report.groups import Group, TableKey, by_row, table_key
from rsbench.report.table import EMPTY, PLUS_MINUS, Cell
from rsbench.results.published import AGGREGATES, PublishedRow
from rsbench.results.published_names import Counterpart, counterpart, own_dataset
from rsbench.results.schema import Result

PUBLISHED_RECIPE = "paper"


@dataclass(frozen=True)
class Ours:
    """One row of ours, with the table that it belongs to."""

    key: TableKey
    group: Group

    @property
    def kind(self) -> str:
        """Its noise kind."""
        return self.key.noise[0] if self.key.noise else "none"


@dataclass(frozen=True)
class Slot:
    """A published row and the run of ours that is looked for."""

    row: PublishedRow
    wanted: Counterpart

    @property
    def aggregate(self) -> str:
        """Key of the aggregate that the paper prints, or ""."""
        return next((k for k in AGGREGATES if k in self.row.printed), "")


@dataclass(frozen=True)
class Pairing:
    """A row of ours beside a published one.

    Attributes:
        slot: the published row.
        ours: the row of ours.
        departures: what is not the same -> both sides in words.
    """

    slot: Slot
    ours: Ours
    departures: Mapping[str, str]

    @property
    def comparable(self) -> bool:
        """Whether both were measured on the same test part."""
        return not {"dataset", "test set", "split"} & set(self.departures)


def slot_of(row: PublishedRow, dataset: str = "") -> Slot:
    """The run that is looked for beside a row.

    Args:
        row: as printed.
        dataset: ours that takes the place of the published one, "" for none.
    """
    wanted = counterpart(row)
    if dataset and dataset != wanted.dataset:
        wanted = replace(wanted, dataset=dataset, split="")
    return Slot(row, wanted)


def ours_of(results: Sequence[Result], pool: Sequence[str] = ()) -> list[Ours]:
    """Rows of the finished runs with test figures, each once.

    Args:
        results: as ``load_results`` gives them.
        pool: settings that are averaged over.
    """
    found: dict[TableKey, list[Result]] = {}
    for result in results:
        key = table_key(result["spec"])
        if result.get("status") == "done" and key.held_out:
            found.setdefault(key, []).append(result)
    return [Ours(key, group) for key, runs in found.items() for group in by_row(runs, pool)]


def base_of(dataset: str) -> str:
    """The dataset whose test part a registered part of it keeps, else the name itself."""
    if dataset not in DATASETS.names():
        return dataset
    return str(DATASETS.load(dataset).base or dataset)


def fits(ours: Ours, slot: Slot, *, any_kind: bool = False) -> bool:
    """Whether dataset, noise rate, method and noise kind agree; a part of a dataset stands for it.

    Args:
        ours: row of ours.
        slot: published row.
        any_kind: let ``shuffle`` and ``pmp`` stand beside each other.
    """
    wanted = slot.wanted
    if ours.group.key.method != wanted.method.removesuffix(":full"):
        return False
    other_kind = any_kind and {ours.kind, wanted.kind} == {"shuffle", "pmp"}
    if ours.kind != wanted.kind and not other_kind:
        return False
    if ours.kind != "real" and ours.group.key.rate != wanted.rate:
        return False
    return wanted.dataset in (ours.key.dataset, base_of(ours.key.dataset))


def pair(ours: Ours, slot: Slot) -> Pairing:
    """Both rows with everything known in which they differ."""
    return Pairing(slot, ours, dict(_departures(ours, slot)))


def _departures(ours: Ours, slot: Slot) -> list[tuple[str, str]]:
    key, row, wanted = ours.key, ours.group.key, slot.wanted
    seeds = tuple(int(r["spec"]["seed"]) for r in ours.group.runs)
    unit = key.noise[1] if key.noise and ours.kind == "shuffle" else "caption"
    found = [
        ("dataset", key.dataset, own_dataset(slot.row.dataset)),
        ("noise kind", ours.kind, wanted.kind),
        ("noise unit", unit, "caption"),
        ("split", key.split, wanted.split or key.split),
        ("backbone", row.backbone, wanted.backbone or "not stated"),
        ("recipe", key.recipe, PUBLISHED_RECIPE),
        ("seeds", _words(seeds), _words(sorted(wanted.seeds))),
    ]
    different = [(name, f"ours {a}, published {b}") for name, a, b in found if a != b]
    if base_of(key.dataset) == own_dataset(slot.row.dataset):
        different = [("training set" if n == "dataset" else n, words) for n, words in different]
    if key.folds != wanted.folds:
        different.append(("test set", f"ours {_test_set(key.folds)}, published {_test_set(wanted.folds)}"))
    return different


def _test_set(folds: int) -> str:
    return "the whole part" if folds == 1 else f"means over {folds} folds of it"


def _words(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def closest(ours: Ours, slots: Sequence[Slot]) -> tuple[list[Pairing], int]:
    """The published rows that differ from ours in the least, and how many others were left out.

    Args:
        ours: row of ours.
        slots: all published rows; ablations that repeat a main row should not be among them.
    """
    pairs = [pair(ours, s) for s in slots if fits(ours, s, any_kind=True)]
    if not pairs:
        return [], 0
    what = ("noise kind", "backbone", "split", "test set")
    distances = [sum(name in p.departures for name in what) for p in pairs]
    kept = [p for p, d in zip(pairs, distances, strict=True) if d == min(distances)]
    return kept, len(pairs) - len(kept)


def printed_cell(row: PublishedRow, key: str) -> Cell:
    """A figure as printed, with the deviation where one is printed.

    Args:
        row: as printed.
        key: a recall or an aggregate.
    """
    if key not in row.printed:
        return EMPTY
    spread = row.printed.get(f"{key}_std")
    text = row.printed[key] + (f"{PLUS_MINUS}{spread}" if spread else "")
    return Cell(text, float(row.printed[key]), float(spread) if spread else None)


def published_cell(slot: Slot) -> Cell:
    """The printed aggregate as it is printed; rSum is named, because mR is what the column holds otherwise."""
    if slot.aggregate in ("", "mr"):
        return printed_cell(slot.row, "mr")
    return Cell(f"{AGGREGATES[slot.aggregate][2]} {slot.row.printed[slot.aggregate]}")


def difference(pairing: Pairing) -> Cell:
    """Mean of ours minus the printed aggregate; nothing where dataset, split or test set differ or ours has no mean."""
    key = pairing.slot.aggregate
    if not key or not pairing.comparable:
        return EMPTY
    mean = metric_cell(pairing.ours.group, key, 2, pairing.ours.key.held_out).mean
    if mean is None:
        return EMPTY
    gap = mean - pairing.slot.row.figures[key]
    return Cell(f"{gap:+.2f}" if key == "mr" else f"rSum {gap:+.2f}", gap if key == "mr" else None)


def marks_cell(row: PublishedRow) -> Cell:
    """Kinds of the marks on a row."""
    return Cell(", ".join(dict.fromkeys(m.kind for m in row.marks)))


def reasons(rows: Sequence[PublishedRow]) -> list[str]:
    """Notes that say why rows are marked, rows with one reason together."""
    same: dict[tuple[str, str, str], list[int]] = {}
    for row in rows:
        where = row.source.rpartition(", row ")[0]
        for m in row.marks:
            same.setdefault((where, m.kind, m.reason), []).append(row.row)
    return [
        f"{kind}: {where}, row{'s' * (len(set(at)) > 1)} {', '.join(map(str, dict.fromkeys(at)))}: {reason}"
        for (where, kind, reason), at in same.items()
    ]


def departure_notes(pairings: Sequence[Pairing]) -> list[str]:
    """One note per kind of departure, each pair of words once with the tables that it holds for."""
    said: dict[str, dict[str, dict[str, None]]] = {}
    for p in pairings:
        for name, words in p.departures.items():
            said.setdefault(name, {}).setdefault(words, {})[p.slot.row.benchmark] = None
    parts = {name: [f"{words} ({', '.join(at)})" for words, at in found.items()] for name, found in said.items()}
    return [f"differs in {name}: {'; '.join(found)}" for name, found in parts.items()]
