"""Which runs stand in one table, and which in one row of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rsbench.errors import UnknownNameError, UsageError
from rsbench.results.schema import Result


class TableKey(NamedTuple):
    """What all runs of a table share."""

    dataset: str
    fingerprint: str
    split: str
    recipe: str
    selection: str
    held_out: bool
    folds: int
    """Folds of the test part whose figures are averaged; 1 for the whole part."""
    noise: tuple[str, str, str] | None
    """Kind, unit, source; None for clean runs before they join their noisy neighbours."""


class RowKey(NamedTuple):
    """What names a row."""

    rate: float
    method: str
    backbone: str
    weights: str
    tuning: str


@dataclass(frozen=True)
class Group:
    """The runs of one row.

    Attributes:
        key: what names it.
        settings: every other setting, flattened (``params.tau``).
        runs: finished runs, by seed.
    """

    key: RowKey
    settings: Mapping[str, Any]
    runs: tuple[Result, ...]

    @property
    def noise_files(self) -> set[str]:
        """Digests of the noise lists that the runs were trained on."""
        return {noise_file(r) for r in self.runs}


NOISE_FILE = "noise_sha256"
_NAMED = {"dataset", "fingerprint", "split", "held_out", "method", "variant", "backbone", "weights", "tuning", "seed"}
_NAMED |= {"folds", "noise.kind", "noise.unit", "noise.source", "noise.rate", "recipe.name", "recipe.selection"}
_NOISE_FILE_FIELDS = {"noise.seed", NOISE_FILE}

UNPOOLABLE = {
    "dataset": "it would mix test sets",
    "fingerprint": "it would mix test sets",
    "revisions.dataset": "it would mix test sets",
    "revisions.method": "it would mix versions of the code",
    "revisions.backbone": "it would mix versions of the code",
    "schema": "it would mix versions of the code",
    "split": "it would mix test sets",
    "held_out": "it would mix validation and test numbers",
    "recipe.selection": "it would mix ways of choosing the epoch",
    "recipe.name": "it would mix recipes",
    "noise.kind": "it would mix kinds of training data",
    "noise.unit": "it would mix kinds of training data",
    "noise.source": "it would mix kinds of training data",
    "noise.rate": "it would mix kinds of training data",
    "method": "it names the row",
    "variant": "it names the row",
    "backbone": "it names the row",
    "weights": "it names the row",
    "tuning": "it names the row",
    "seed": "seeds are averaged already",
}


def method_label(spec: Mapping[str, Any]) -> str:
    """``srem``, or ``srem:variant`` where it is not the full method."""
    return str(spec["method"]) if spec["variant"] in ("", "full") else f"{spec['method']}:{spec['variant']}"


def noise_file(result: Result) -> str:
    """Digest of the run's noise list."""
    return str(result["spec"].get(NOISE_FILE) or result.get("noise", {}).get("sha256", ""))


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level, keys joined by dots; lists become tuples."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = tuple(value) if isinstance(value, list) else value
    return flat


def table_key(spec: Mapping[str, Any]) -> TableKey:
    """The table of a run."""
    noise, recipe = spec["noise"], spec["recipe"]
    clean = noise["kind"] == "none" or (float(noise["rate"]) == 0 and noise["kind"] != "real")
    return TableKey(
        dataset=str(spec["dataset"]),
        fingerprint=str(spec.get("fingerprint", "")),
        split=str(spec["split"]),
        recipe=str(recipe.get("name", "")),
        selection=str(recipe.get("selection", "")),
        held_out=bool(spec.get("held_out", True)),
        folds=int(spec.get("folds", 1)),
        noise=None if clean else (str(noise["kind"]), str(noise["unit"]), str(noise["source"])),
    )


def by_table(results: Iterable[Result]) -> dict[TableKey, list[Result]]:
    """Runs per table. Runs without noise stand in every table that differs in the noise alone."""
    found: dict[TableKey, list[Result]] = defaultdict(list)
    for result in results:
        found[table_key(result["spec"])].append(result)
    for clean in [k for k in found if k.noise is None]:
        noisy = [k for k in found if k.noise is not None and k._replace(noise=None) == clean]
        for key in noisy:
            found[key] = found[clean] + found[key]
        if noisy:
            del found[clean]
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _order(key: TableKey) -> tuple[object, ...]:
    """Test tables before validation tables of the same dataset."""
    return (key.dataset, not key.held_out, key[1:-1], key.noise or ())


def row_key(spec: Mapping[str, Any]) -> RowKey:
    """The row of a run."""
    rate = 0.0 if spec["noise"]["kind"] == "none" else float(spec["noise"]["rate"])
    return RowKey(rate, method_label(spec), str(spec["backbone"]), str(spec["weights"]), str(spec["tuning"]))


def check_pool(pool: Sequence[str], results: Sequence[Result]) -> None:
    """Refuse fields whose pooling would make a number that means nothing.

    Raises:
        UsageError: such a field, with the reason.
        UnknownNameError: no run has the field.
    """
    for name in pool:
        if name in UNPOOLABLE:
            raise UsageError(f"'{name}' cannot be pooled: {UNPOOLABLE[name]}; use a filter to choose one value instead")
    known = {k for r in results for k in flatten(r["spec"])} - _NAMED - {"version"}
    for name in pool:
        if name not in known:
            raise UnknownNameError("field to pool", name, known)


def by_row(results: Iterable[Result], pool: Sequence[str] = ()) -> list[Group]:
    """Runs per row: equal in all but the seed, a noise list per seed (``--noise-seed per-run``), and pooled fields.

    Runs of different revisions of method, backbone or dataset, or of different result schemas, never share a row.
    """
    results = list(results)
    schemas = {r.get("schema") for r in results}
    found: dict[tuple[RowKey, str], list[Result]] = defaultdict(list)
    settings: dict[tuple[RowKey, str], dict[str, Any]] = {}
    for result in results:
        spec = result["spec"]
        key = row_key(spec)
        skipped = _NAMED | _NOISE_FILE_FIELDS | set(pool)
        rest = {k: v for k, v in flatten(spec).items() if k not in skipped}
        rest |= {"schema": result.get("schema")} if len(schemas) > 1 else {}
        name = (key, repr(sorted(rest.items())))
        settings[name] = rest
        found[name].append(result)
    groups = [Group(n[0], settings[n], tuple(sorted(r, key=_seed))) for n, r in found.items()]
    if _NOISE_FILE_FIELDS & set(pool):
        return groups
    return [part for group in groups for part in _by_noise_file(group)]


def _seed(result: Result) -> int:
    return int(result["spec"]["seed"])


def _by_noise_file(group: Group) -> list[Group]:
    """One group if all runs share a list or each seed has its own; else one per list."""
    files = [noise_file(r) for r in group.runs]
    seeds = {_seed(r) for r in group.runs}
    one_each = len(set(files)) == len(files) == len(seeds)
    if group.key.rate == 0 or len(set(files)) == 1 or one_each:
        return [group]
    parts = {f: tuple(r for r, own in zip(group.runs, files, strict=True) if own == f) for f in dict.fromkeys(files)}
    return [Group(group.key, {**group.settings, "noise file": f[:8]}, runs) for f, runs in parts.items()]
