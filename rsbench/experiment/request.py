"""What a user asks for: lists of names and values that span a grid of runs. No torch."""

from __future__ import annotations

import difflib
import itertools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsbench.errors import UnknownNameError, UsageError

SCOPES = ("method", "recipe", "backbone")


@dataclass(frozen=True)
class Request:
    """A grid of runs as typed; empty values mean the dataset's or the method's default.

    Attributes:
        methods: names, ``name:variant``, or ``file.py[:Class]``.
        rates: noise rates.
        seeds: run seeds.
        scorer: noise kind ``pmp``: the model that scores captions; with ``pmp_threshold`` or ``pmp_quantile``.
        tuned: start from what the common recipe's search chose (``tuned.toml``); off for the search itself.
        settings: ``scope.field`` -> values to try, as typed.
    """

    methods: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    rates: tuple[float, ...] = (0.0,)
    seeds: tuple[int, ...] = (0,)
    split: str | None = None
    kind: str = "shuffle"
    unit: str = "caption"
    source: str | None = None
    noise_seed: str = "42"
    scorer: str | None = None
    pmp_threshold: float | None = None
    pmp_quantile: float | None = None
    backbone: str | None = None
    tuning: str | None = None
    weights: str | None = None
    recipe: str = "common"
    precision: str = "auto"
    held_out: bool = True
    tuned: bool = True
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def combinations(self) -> Iterator[dict[str, str]]:
        """Every combination of settings, one value a field."""
        for values in itertools.product(*self.settings.values()):
            yield dict(zip(self.settings, values, strict=True))


def split_list(text: str) -> tuple[str, ...]:
    """``a,b,c`` as a tuple without empty items."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def parse_rates(text: str) -> tuple[float, ...]:
    """Noise rates ``0,0.4``.

    Raises:
        UsageError: not a number, or outside [0, 1).
    """
    rates = []
    for item in split_list(text):
        try:
            rate = float(item)
        except ValueError:
            raise UsageError(f"--noise '{item}' is no number; give rates in [0, 1) such as --noise 0,0.4") from None
        if not 0 <= rate < 1:
            raise UsageError(f"--noise {item} is outside [0, 1); give a share such as --noise 0.4")
        rates.append(rate)
    if not rates:
        raise UsageError("--noise is empty; give rates in [0, 1) such as --noise 0,0.4")
    return tuple(dict.fromkeys(rates))


def parse_seeds(count: int, listed: str | None) -> tuple[int, ...]:
    """``--seeds N`` is 0..N-1; ``--seed-list 3,13,25`` names them.

    Raises:
        UsageError: fewer than one seed, a negative one, or no number.
    """
    if listed is None:
        if count < 1:
            raise UsageError(f"--seeds {count}: at least one run seed is needed, for example --seeds 5")
        return tuple(range(count))
    try:
        seeds = tuple(dict.fromkeys(int(s) for s in split_list(listed)))
    except ValueError:
        raise UsageError(f"--seed-list '{listed}' holds something that is no whole number; write 3,13,25") from None
    if not seeds or min(seeds) < 0:
        raise UsageError(f"--seed-list '{listed}' needs whole numbers from 0 up, for example 3,13,25")
    return seeds


def parse_settings(items: list[str]) -> dict[str, tuple[str, ...]]:
    """``scope.field=value[,value]`` items; a comma spans a grid.

    Raises:
        UsageError: no ``=``, no value, an unknown scope, or a field given twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for item in items:
        key, equals, value = item.partition("=")
        scope, dot, name = key.strip().partition(".")
        if not equals:
            raise UsageError(f"--set '{item}' has no '='; write --set method.tau=0.05")
        if not dot or not name:
            raise UsageError(f"--set '{item}' names no scope; write one of " + ", ".join(f"{s}.{key}" for s in SCOPES))
        if scope not in SCOPES:
            near = difflib.get_close_matches(scope, SCOPES, n=1)
            raise UsageError(
                f"--set '{item}': unknown scope '{scope}'"
                + (f", did you mean {near[0]}?" if near else "")
                + f" Known: {', '.join(SCOPES)}"
            )
        if not split_list(value):
            raise UsageError(f"--set '{item}' has no value; write --set {key}=VALUE")
        if key.strip() in found:
            raise UsageError(f"--set {key.strip()} is given twice; list the values with commas")
        found[key.strip()] = split_list(value)
    return found


CONFIG_KEYS = {
    "method": str,
    "benchmark": str,
    "dataset": str,
    "noise": str,
    "seeds": int,
    "seed_list": str,
    "split": str,
    "noise_kind": str,
    "noise_unit": str,
    "noise_source": str,
    "noise_seed": str,
    "scorer": str,
    "pmp_threshold": float,
    "pmp_quantile": float,
    "backbone": str,
    "tuning": str,
    "weights": str,
    "recipe": str,
    "precision": str,
    "out": str,
    "jobs": int,
    "device": str,
    "overwrite": str,
    "launcher": str,
    "launch": dict,
    "set": dict,
}
"""Keys of a config file: the long flags of ``rsbench run``, with underscores."""

FOR_ALL = ("benchmark", "out", "jobs", "device", "overwrite", "launcher", "launch")
"""Keys that hold for the whole grid and cannot differ between its parts."""


def read_config(path: Path) -> dict[str, Any]:
    """Read a TOML file whose keys are the flags of ``rsbench run``; lists become comma lists.

    Raises:
        UsageError: missing, not TOML, or a value of the wrong type.
        UnknownNameError: a key that is no flag.
    """
    return config_values(path, read_toml(path))


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a grid file.

    Raises:
        UsageError: missing, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(
            f"--config {path} cannot be read; give a TOML file whose keys are flags, such as noise = [0, 0.4]"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path} is no TOML: {error}") from None


def config_values(path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a table as flags; lists become comma lists.

    Args:
        path: of the file, for messages.
        data: the table.

    Raises:
        UsageError: a value of the wrong type.
        UnknownNameError: a key that is no flag.
    """
    for key in data:
        if key not in CONFIG_KEYS:
            raise UnknownNameError("key in the config file", key, CONFIG_KEYS, "keys are the flags of `rsbench run`")
    return {key: _config_value(path, key, value) for key, value in data.items()}


def _config_value(path: Path, key: str, value: Any) -> Any:
    wanted = CONFIG_KEYS[key]
    if wanted is dict:
        if not isinstance(value, dict):
            example = '[set] with "method.tau" = 0.05' if key == "set" else "[launch] with slots = 2"
            raise UsageError(f"{path}: '{key}' must be a table, such as {example}")
        return [f"{k}={_joined(v)}" for k, v in value.items()]
    if wanted in (int, float):
        if not isinstance(value, int | wanted) or isinstance(value, bool):
            raise UsageError(f"{path}: '{key}' must be a {'whole ' if wanted is int else ''}number, not {value!r}")
        return wanted(value)
    return _joined(value)


def _joined(value: Any) -> str:
    return ",".join(str(v) for v in value) if isinstance(value, list) else str(value)
