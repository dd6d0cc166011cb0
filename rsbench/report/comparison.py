"""Two methods run by run: which results are paired, and what their differences say. No torch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rsbench.errors import ResultError, UnknownNameError, UsageError
from rsbench.evaluation.significance import Interval, bootstrap_mr, sign_flip_p, t_interval
from rsbench.report.build import value_of
from rsbench.report.groups import Group, TableKey, by_row, by_table, method_label, noise_file
from rsbench.results.ranks import QueryRanks, read_ranks
from rsbench.results.schema import Result

_OF_METHOD = ("params.", "revisions.method")
"""Settings in which two methods differ by nature."""


@dataclass(frozen=True)
class Comparison:
    """The runs of a method and of another, paired by seed at one noise rate of one table.

    Attributes:
        key: table of both.
        first: runs of the method, as they stand in a row.
        second: runs of the method that is subtracted.
        ranks: hash of a run -> file with its ranks; runs without one are compared by seed alone.
        notes: what a reader must know of the pairing; more come with ``queries``.
    """

    key: TableKey
    first: Group
    second: Group
    ranks: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def pairs(self) -> list[tuple[Result, Result]]:
        """Runs of equal seed.

        Raises:
            ResultError: two runs of one seed on a side.
        """
        ours, theirs = by_seed(self.first), by_seed(self.second)
        return [(ours[s], theirs[s]) for s in sorted(ours.keys() & theirs.keys())]

    @property
    def name(self) -> str:
        """Method and noise rate, for notes."""
        return f"{self.first.key.method} at {self.first.key.rate:g}"

    @property
    def values(self) -> tuple[list[float | None], list[float | None]]:
        """MR of each pair, first and second; None where a run has none."""
        part = "test" if self.key.held_out else "val"
        first, second = ([value_of(pair[side], "mr", part) for pair in self.pairs] for side in (0, 1))
        return first, second

    @cached_property
    def differences(self) -> list[float]:
        """First - second of each pair; empty where a value is missing or NaN, which no mean may hide."""
        found = [math.nan if None in (a, b) else a - b for a, b in zip(*self.values, strict=True)]  # type: ignore[operator]
        return found if all(map(math.isfinite, found)) else []

    @cached_property
    def interval(self) -> Interval | None:
        """Student's interval of the difference over seeds; None below two pairs."""
        return t_interval(self.differences) if self.differences else None

    @cached_property
    def p(self) -> float | None:
        """Sign-flip test over seeds; None below two pairs."""
        return sign_flip_p(self.differences) if len(self.differences) > 1 else None

    @property
    def verdict(self) -> str:
        """What the interval over seeds says."""
        if not self.differences:
            return "—"
        if self.interval is None:
            return "one pair: no interval"
        if self.interval.holds_zero:
            return "no difference shown"
        return "higher" if self.interval.mean > 0 else "lower"

    @cached_property
    def queries(self) -> Interval | None:
        """Bootstrap interval over test queries, from the pairs that keep their ranks; None where no pair does."""
        kept = self._ranked
        return bootstrap_mr([a for a, _ in kept], [b for _, b in kept]) if kept else None

    @cached_property
    def _ranked(self) -> list[tuple[QueryRanks, QueryRanks]]:
        if not self.key.held_out or not self.differences:
            return []
        both = [(self._ranks(a), self._ranks(b)) for a, b in self.pairs]
        return [(a, b) for a, b in both if a is not None and b is not None]

    def _ranks(self, run: Result) -> QueryRanks | None:
        """The ranks of a run, unless they are of other weights than its figures."""
        path = self.ranks.get(str(run.get("hash")))
        if path is None:
            return None
        found, mr = read_ranks(path), value_of(run, "mr", "test")
        return found if mr is not None and abs(found.mr - mr) < 1e-6 else None

    @property
    def notes(self) -> list[str]:
        """Seeds, settings and lists that the two sides do not share."""
        alone = by_seed(self.first).keys() ^ by_seed(self.second).keys()
        found = [f"{self.name}: seeds on one side only left out: {_listed(alone)}"] if alone else []
        ours, theirs = shared_settings(self.first), shared_settings(self.second)
        other = [k for k in sorted(ours.keys() | theirs.keys()) if ours.get(k) != theirs.get(k)]
        if other:
            words = ", ".join(f"{k} {ours.get(k, '—')} against {theirs.get(k, '—')}" for k in other)
            found.append(f"{self.name}: settings differ: {words}")
        if self.first.key.rate > 0 and any(noise_file(a) != noise_file(b) for a, b in self.pairs):
            found.append(f"{self.name}: the two sides were trained on different noise lists")
        if 0 < len(self._ranked) < len(self.pairs):
            found.append(f"{self.name}: {len(self._ranked)} of {len(self.pairs)} pairs keep the ranks of their queries")
        return found


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def by_seed(group: Group) -> dict[int, Result]:
    """Runs of a row by seed.

    Raises:
        ResultError: two runs of one seed, of which none can be preferred.
    """
    found: dict[int, Result] = {}
    for run in group.runs:
        before = found.setdefault(int(run["spec"]["seed"]), run)
        if before is not run:
            raise ResultError(
                f"two runs of {group.key.method} at noise {group.key.rate:g} have seed {run['spec']['seed']} "
                f"({before.get('hash')}, {run.get('hash')}); name the folder of one of them, or move one away"
            )
    return found


def shared_settings(group: Group) -> dict[str, object]:
    """Settings that a fair comparison holds equal: all but the method's own."""
    return {k: v for k, v in group.settings.items() if not k.startswith(_OF_METHOD)}


def label_of(name: str, known: Iterable[str]) -> str:
    """A method's label: ``srem:full`` is ``srem``.

    Raises:
        UnknownNameError: no finished run has it.
    """
    label = name.removesuffix(":full")
    if label not in (names := set(known)):
        raise UnknownNameError("method in these results", name, names)
    return label


def compare(
    results: Sequence[Result], methods: Sequence[str], against: str, ranks: Mapping[str, Path] | None = None
) -> list[Comparison]:
    """Pair methods with one of them, in every table and at every noise rate where both have runs.

    Rows are paired with those of equal settings; where there are none, with all, and a note says what differs.

    Args:
        results: as ``load_results`` and ``select`` give them; unfinished runs are left out.
        methods: labels such as ``srem`` or ``srem:u+w``; empty for all others.
        against: label of the method that is subtracted.
        ranks: hash of a run -> file with its ranks.

    Raises:
        UnknownNameError: a method without finished runs.
        UsageError: a method against itself.
        ResultError: no pair of runs, or two runs of one seed.
    """
    done = [r for r in results if r.get("status") == "done"]
    known = {method_label(r["spec"]) for r in done}
    base = label_of(against, known)
    wanted = {label_of(m, known) for m in methods} or known - {base}
    if base in wanted:
        raise UsageError(f"'{base}' is compared with itself; name another method, one of: {', '.join(sorted(known))}")
    rows = [c for key, runs in by_table(done).items() for c in _rows(key, by_row(runs), wanted, base, ranks or {})]
    found = [c for c in rows if c.pairs]
    if not found:
        what = f"{', '.join(sorted(wanted)) or 'no other method'} and {base}"
        raise ResultError(
            f"{what} have no run in common (same dataset, split, noise, recipe, backbone, rate and seed); "
            "see what is there with: rsbench table"
        )
    return found


def _rows(
    key: TableKey, groups: Sequence[Group], wanted: set[str], base: str, ranks: Mapping[str, Path]
) -> Iterator[Comparison]:
    partners: dict[tuple[object, ...], list[Group]] = defaultdict(list)
    for group in groups:
        if group.key.method == base:
            partners[group.key._replace(method="")].append(group)
    for group in sorted(groups, key=lambda g: g.key):
        if group.key.method in wanted:
            there = partners[group.key._replace(method="")]
            equal = [p for p in there if shared_settings(p) == shared_settings(group)]
            yield from (Comparison(key, group, p, ranks) for p in equal or there)
