"""``rsbench describe``: everything a card knows of one name."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rsbench.cli.benchmark import describe_table
from rsbench.cli.complete import KINDS, TABLES, names_of
from rsbench.cli.console import console, print_json, print_rows
from rsbench.cli.listing import backbone_state, dataset_state, load
from rsbench.data.root import data_root
from rsbench.errors import UnknownNameError
from rsbench.experiment.benchmarks import benchmark_names
from rsbench.experiment.launch.cards import settings_told
from rsbench.methods.card import MethodCard

Facts = dict[str, Any]

SHORT = 30
"""Longest item, in characters, of a list that is printed on one line."""


def describe(
    name: Annotated[
        str,
        typer.Argument(
            help="A registered name, or file.py:Class of your own method.", autocompletion=names_of(*KINDS.values())
        ),
    ],
    root: Annotated[Path | None, typer.Option(help="Data root; RSBENCH_DATA or ~/.cache/rsbench by default.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show parameters with default and source, variants, decided readings, files."""
    found = facts_of(name, data_root(root))
    if json:
        print_json(found)
        return
    for kind, facts in found.items():
        _print(kind, dict(facts))


def facts_of(name: str, root: Path) -> dict[str, Facts]:
    """What is known of a name, by kind (a name may be both a dataset and a backbone).

    Raises:
        UnknownNameError: with the nearest names of all kinds.
    """
    if ".py" in name:
        return {"methods": _method(name)}
    if name in (tables := benchmark_names()):
        return {TABLES: describe_table(name, root)}
    kinds = {kind: known for kind, known in KINDS.items() if name in known.names()}
    if not kinds:
        every = [n for known in KINDS.values() for n in known.names()] + tables
        raise UnknownNameError("name", name, every, "see `rsbench list`")
    return {kind: _facts(kind, name, root) for kind in kinds}


def _facts(kind: str, name: str, root: Path) -> Facts:
    if kind == "methods":
        return _method(name)
    entry = KINDS[kind].entry(name)
    facts: Facts = {"summary": entry.summary, "target": entry.target, "missing": list(entry.missing)}
    if kind in ("datasets", "backbones"):
        card = _plain(load(kind, name) if not entry.missing else {})
        facts = {**card, "missing": facts["missing"]}
    if kind == "launchers":
        facts["settings"] = settings_told(name)
    if kind == "datasets":
        facts["state"] = dataset_state(name, root)
    if kind == "backbones" and not entry.missing:
        facts["state"] = backbone_state(name)
    return facts


def _method(name: str) -> Facts:
    from rsbench.methods.build import load_card

    card: MethodCard = load_card(name)
    facts: Facts = _plain({f.name: getattr(card, f.name) for f in dataclasses.fields(card) if f.name != "params"})
    facts["params"] = [
        {"name": f.name, "default": _plain(f.default), **_plain(dict(f.metadata))}
        for f in dataclasses.fields(card.params)
    ]
    facts["file"] = name if ".py" in name else where(card.target)
    return facts


def where(target: str) -> str:
    """``path:line`` of ``module:Class``, found without importing the module."""
    module, _, attribute = target.partition(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return target
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    lines = [n.lineno for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == attribute]
    return f"{spec.origin}:{lines[0]}" if lines else spec.origin


def _plain(value: Any) -> Any:
    """Cards as JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(_plain(v) for v in value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _print(kind: str, facts: Facts) -> None:
    params = facts.pop("params", None)
    console.print(f"[bold]{kind.removesuffix('s')}[/]")
    for key, value in facts.items():
        if value not in (None, "", [], {}):
            lines = list(_lines(value))
            console.print(f"  {key.replace('_', ' '):<15}{lines[0]}", markup=False, soft_wrap=True)
            for line in lines[1:]:
                console.print(f"  {'':<15}{line}", markup=False, soft_wrap=True)
    if kind == "methods" and params:
        print_rows(("  parameter", "default", "source", "meaning"), [_param_cells(p) for p in params])
    elif params:
        for key, value in params.items():
            console.print(f"  --set backbone.{key}={value}", markup=False)
    console.print()


def _lines(value: Any) -> Iterator[str]:
    """A fact as one or more lines: long sentences and nested facts get a line each."""
    if isinstance(value, Mapping):
        yield from (f"{k}: {', '.join(_lines(v)) or '-'}" for k, v in value.items() if v is not None)
    elif isinstance(value, list) and all(len(str(v)) < SHORT and not isinstance(v, Mapping) for v in value):
        yield ", ".join(str(v) for v in value)
    elif isinstance(value, list):
        yield from (", ".join(_lines(v)) for v in value)
    else:
        yield str(value)


def _param_cells(param: Facts) -> tuple[str, str, str, str]:
    choices = f" ({' | '.join(map(str, param['choices']))})" if param.get("choices") else ""
    source = param.get("source", "") + (" (unpublished, ours)" if param.get("unpublished") else "")
    return f"  {param['name']}", str(param["default"]), source, param.get("help", "") + choices
