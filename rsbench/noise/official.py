"""Published noise lists, rebuilt exactly: RRSITR's RSITMD and RSICD files (MSFLabX/RRSITR, precomp)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rsbench.data.dataset import Dataset, Ints
from rsbench.data.splits import order_hash
from rsbench.errors import NoiseError, UsageError
from rsbench.noise.index import NoiseSpec

GENERATED = "use the generated one (rsbench run --noise-source generated; rsbench noise --source generated)"
"""The way out where there is no published list."""

RATES = (0.2, 0.4, 0.6, 0.8)
"""The rates of RRSITR's files, in the order in which one generator made them."""


@dataclass(frozen=True)
class OfficialList:
    """The training part that a published list was drawn from.

    Attributes:
        rates: split -> noise rates.
        pairs: rows of the list.
        order: ``order_hash`` of the training file names in split order.
    """

    rates: Mapping[str, tuple[float, ...]]
    pairs: int
    order: str


LISTS: Mapping[str, OfficialList] = {
    "rsitmd": OfficialList(
        {"rrsitr": RATES}, 19_305, "36748757aa36180070a01b759367c6ddb88bc9b667b7875de5136a6907c476e7"
    ),
    "rsicd": OfficialList(
        {"rrsitr": RATES}, 44_225, "921850248933757de5b6b651a7d8661ab532a2adaffb141a50d6dd018011e455"
    ),
}


def official_fault(
    name: str, rates: Mapping[str, tuple[float, ...]], split: str, kind: str, unit: str, rate: float
) -> str | None:
    """Why there is no official list for these settings, in words; None when there is one.

    Rate 0 is the clean file that every family of lists begins with.
    """
    if not rates:
        return f"no official noise list is known for '{name}'; {GENERATED}"
    if split not in rates:
        return f"the official lists of '{name}' are for split {', '.join(rates)}, not '{split}'; {GENERATED}"
    if kind != "shuffle" or unit != "caption":
        return f"official lists shuffle captions; for kind '{kind}', unit '{unit}' {GENERATED}"
    if rate != 0 and not any(math.isclose(rate, r) for r in rates[split]):
        known = ", ".join(f"{r:g}" for r in rates[split])
        return f"'{name}' has no official list at rate {rate:g}, only at 0, {known}; {GENERATED}"
    return None


def source_rows(rows: int, rate: float) -> Ints:
    """The clean row whose caption stands in each row of RRSITR's list, ``[rows]``.

    One legacy generator seeded 42 serves the rates in ascending order without being seeded again, and each rate
    starts from the clean list: so the draws of the lower rates have to be replayed.
    """
    generator = np.random.RandomState(42)
    for step in (r for r in RATES if r <= rate or math.isclose(r, rate)):
        chosen = generator.choice(rows, size=int(rows * step), replace=False)
        shown = chosen.copy()
        generator.shuffle(shown)
    source = np.arange(rows)
    if rate > 0:
        source[chosen] = shown
    return source


def official(dataset: Dataset, split: str, spec: NoiseSpec) -> Ints:
    """The pairs ``[P, 2]`` of the published list.

    Raises:
        UsageError: there is no list for this dataset, split, kind, unit and rate.
        NoiseError: this copy of the dataset is not the one that the list was drawn from.
    """
    known = LISTS.get(dataset.name)
    fault = official_fault(dataset.name, known.rates if known else {}, split, spec.kind, spec.unit, spec.rate)
    if known is None or fault:
        raise UsageError(fault)
    shown = dataset.pairs(split, "train")
    order = order_hash([dataset.filenames[i] for i in dataset.part(split, "train")])
    if len(shown) != known.pairs or order != known.order:
        raise NoiseError(
            f"the official list of '{dataset.name}' names {known.pairs:,} training pairs in a fixed order; this copy "
            f"has {len(shown):,} pairs, {len(dataset.missing)} images missing, or another order; "
            f"prepare the complete dataset, or {GENERATED}"
        )
    shown[:, 1] = shown[source_rows(len(shown), spec.rate), 1]
    return shown
