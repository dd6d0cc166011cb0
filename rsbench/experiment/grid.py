"""Grid files: a TOML table of flags, crossed by a matrix, without exclusions, with additions. No torch."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsbench.errors import UnknownNameError, UsageError
from rsbench.experiment.request import (
    CONFIG_KEYS,
    FOR_ALL,
    config_values,
    parse_seeds,
    parse_settings,
    read_toml,
    split_list,
)

TABLES = ("matrix", "exclude", "include")
SET = "set."
SEEDS = ("seeds", "seed_list")

Cell = dict[str, Any]
"""One value for each axis; an axis is a key of ``CONFIG_KEYS`` or ``set.FIELD``."""


@dataclass(frozen=True)
class Grid:
    """A grid file.

    Attributes:
        path: of the file.
        base: flags of every part, ``set`` as a flat table.
        axes: values of each axis of the matrix; none in a file that is flags alone.
        exclude: values, or lists of them, of some axes; a cell that agrees in all of them is left out.
        include: flags of further parts, over those of ``base``.
    """

    path: Path
    base: Mapping[str, Any]
    axes: Mapping[str, Sequence[Any]]
    exclude: Sequence[Mapping[str, Any]] = ()
    include: Sequence[Mapping[str, Any]] = ()

    @property
    def flat(self) -> bool:
        """Whether the file is flags alone."""
        return not self.axes and not self.include

    def parts(self, typed: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The flags of each part of the grid, as ``config_values`` gives them.

        Args:
            typed: flags that were typed and win, by their key; left out of the parts unless they span an axis.

        Raises:
            UsageError: a value of the wrong type.
        """
        grid = self._with(typed or {})
        layers = grid.cells() if grid.axes else [{}] if grid.flat else []
        return [config_values(self.path, grid._over(layer)) for layer in (*layers, *grid.include)]

    def _with(self, typed: Mapping[str, Any]) -> Grid:
        """The grid with typed flags in the place of what the file says."""
        given = {k: v for k, v in typed.items() if k != "set"}
        if set(SEEDS) & set(given):
            seeds = parse_seeds(given.pop("seeds", 1), given.pop("seed_list", None))
            given |= {"seeds": seeds, "seed_list": seeds}
        fields = {SET + k: list(v) for k, v in parse_settings(list(typed.get("set", ()))).items()}
        values = {k: v if isinstance(v, tuple) else split_list(str(v)) for k, v in given.items()} | fields
        loose = {k.removeprefix(SET): v for k, v in fields.items() if k not in self.axes}
        return dataclasses.replace(
            self,
            axes={k: values.get(k, v) for k, v in self.axes.items()},
            base={k: v for k, v in self.base.items() if k not in given} | self._set(loose),
            include=[{k: v for k, v in part.items() if k not in values} | fields for part in self.include],
        )

    def _set(self, loose: Mapping[str, Any]) -> dict[str, Any]:
        found = {**self.base.get("set", {}), **loose}
        return {"set": found} if found else {}

    def cells(self) -> list[Cell]:
        """The cells of the matrix that no exclusion takes out."""
        return [c for c in self._crossed() if not any(_agrees(c, rule) for rule in self.exclude)]

    def _crossed(self) -> Iterator[Cell]:
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def idle_rules(self) -> list[int]:
        """Numbers, from 1, of exclusions that take nothing out."""
        cells = list(self._crossed())
        return [i for i, rule in enumerate(self.exclude, 1) if not any(_agrees(c, rule) for c in cells)]

    def _over(self, layer: Mapping[str, Any]) -> dict[str, Any]:
        """The base with the flags of a part over it."""
        found = {k: v for k, v in self.base.items() if not (k in SEEDS and set(SEEDS) & set(layer))}
        fields = dict(found.pop("set", {}))
        for key, value in layer.items():
            if key.startswith(SET):
                fields[key.removeprefix(SET)] = value
            else:
                found["seed_list" if key == "seeds" and not isinstance(value, Count) else key] = value
        return {**found, "set": fields} if fields else found


class Count(int):
    """``seeds = 3`` as in a flat file: a number of seeds, where an axis names them."""


def read_grid(path: Path) -> Grid:
    """Read a grid file; one without ``[matrix]`` and ``[[include]]`` is flags alone.

    Raises:
        UsageError: missing, not TOML, a table of the wrong shape, or an exclusion that takes nothing out.
        UnknownNameError: a key that is no flag, or no axis of the matrix; the nearest are shown.
    """
    data = read_toml(path)
    tables = {name: data.pop(name, None) for name in TABLES}
    for key in data:
        _check_key(key, (*CONFIG_KEYS, *TABLES))
    if isinstance(data.get("set"), dict):
        data["set"] = _flat(data["set"])
    config_values(path, data)  # types are checked before anything is crossed
    axes = _axes(path, tables["matrix"])
    if (axes or tables["include"]) and "benchmark" in data:
        raise UsageError(f"{path}: a published table (benchmark) takes no [matrix] and no [[include]]; drop one")
    rules = [_rule(path, rule, axes) for rule in _list(path, "exclude", tables["exclude"])]
    more = [_part(path, part) for part in _list(path, "include", tables["include"])]
    grid = Grid(path, data, axes, rules, more)
    for number in grid.idle_rules():
        raise UsageError(
            f"{path}: exclusion {number} ({_spoken(rules[number - 1])}) takes nothing out; check its values"
        )
    return grid


def _axes(path: Path, table: Any) -> dict[str, list[Any]]:
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise UsageError(f"{path}: 'matrix' must be a table, such as [matrix] with noise = [0, 0.4]")
    axes: dict[str, list[Any]] = {}
    for key, value in _keys(path, table).items():
        _check_part_key(path, key, "[matrix]")
        if key in SEEDS and not isinstance(value, list):
            value = list(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value
        axes["seeds" if key in SEEDS else key] = values = value if isinstance(value, list) else [value]
        if not values or any(isinstance(v, dict | list) for v in values):
            raise UsageError(f"{path}: [matrix] {key} must be a list of values, such as {key} = [...]")
    return axes


def _rule(path: Path, rule: dict[str, Any], axes: Mapping[str, Any]) -> dict[str, Any]:
    found = {"seeds" if k in SEEDS else k: v for k, v in _keys(path, rule).items()}
    for key in found:
        if key not in axes:
            raise UnknownNameError(f"key of [[exclude]] in {path}", key, axes, "exclusions name axes of [matrix]")
    if not found:
        raise UsageError(f"{path}: an [[exclude]] is empty and would take every cell out; name axes of [matrix] in it")
    return found


def _part(path: Path, part: dict[str, Any]) -> dict[str, Any]:
    found = _keys(path, part)
    for key in found:
        _check_part_key(path, key, "[[include]]")
    counted = isinstance(found.get("seeds"), int)
    return {**found, "seeds": Count(found["seeds"])} if counted else found


def _list(path: Path, name: str, value: Any) -> list[dict[str, Any]]:
    found = [] if value is None else value
    if not isinstance(found, list) or not all(isinstance(v, dict) for v in found):
        raise UsageError(f"{path}: '{name}' must be tables, such as [[{name}]] with method = \"srem\"")
    return found


def _check_part_key(path: Path, key: str, where: str) -> None:
    if key.startswith(SET):
        return
    _check_key(key, CONFIG_KEYS)
    if key in FOR_ALL:
        raise UsageError(f"{path}: '{key}' holds for the whole grid; write it above {where}")


def _check_key(key: str, known: Sequence[str] | Mapping[str, Any]) -> None:
    if key not in known:
        raise UnknownNameError("key in the config file", key, known, "keys are the flags of `rsbench run`")


def _keys(path: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with its ``set`` spread out: ``set.FIELD``, however it is nested."""
    fields = table.get("set", {})
    if not isinstance(fields, dict):
        raise UsageError(f"{path}: 'set' must be a table, such as [set] with \"method.tau\" = 0.05")
    return {k: v for k, v in table.items() if k != "set"} | {SET + k: v for k, v in _flat(fields).items()}


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"method": {"tau": 1}}`` as ``{"method.tau": 1}``: TOML nests keys with dots that are not quoted."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _agrees(cell: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    wanted = {k: v if isinstance(v, list) else [v] for k, v in rule.items()}
    return all(_same(cell[k]) in [_same(v) for v in values] for k, values in wanted.items())


def _same(value: Any) -> Any:
    """``0``, ``0.0`` and ``"0"`` are the same value."""
    try:
        return value if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return str(value)


def _spoken(rule: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {v}" for k, v in rule.items())
