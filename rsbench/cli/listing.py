"""``rsbench list``: names, what they are, and whether they can be used right now."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Annotated, Any

import typer

from rsbench.cli.benchmark import list_tables
from rsbench.cli.complete import KINDS, TABLES, kinds
from rsbench.cli.console import console, print_json, print_rows
from rsbench.data.root import data_root
from rsbench.errors import DataError, DependencyError, UnknownNameError

Row = dict[str, Any]


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="methods, datasets, backbones, noise, launchers, benchmarks; all if absent.", autocompletion=kinds
        ),
    ] = None,
    filter: Annotated[str, typer.Option("--filter", "-f", help="Wildcard on names, for example 'rs*'.")] = "*",
    root: Annotated[Path | None, typer.Option(help="Data root; RSBENCH_DATA or ~/.cache/rsbench by default.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List methods, datasets, backbones, noise kinds, launchers and published tables."""
    if kind is not None and kind not in (*KINDS, TABLES):
        raise UnknownNameError("kind", kind, (*KINDS, TABLES), "for example `rsbench list methods`")
    found = {k: rows for k in ([kind] if kind else (*KINDS, TABLES)) if (rows := rows_of(k, filter, data_root(root)))}
    if json:
        print_json(found)
        return
    if not found:
        console.print(f"nothing is named like '{filter}'; `rsbench list` shows all names", markup=False)
    for name, rows in found.items():
        console.print(f"[bold]{name}[/]")
        print_rows(("  name", "state", "summary"), [_cells(row) for row in rows])
        console.print()


def rows_of(kind: str, pattern: str, root: Path) -> list[Row]:
    """What is registered under one kind.

    Args:
        kind: key of ``KINDS``, or ``benchmarks``.
        pattern: shell wildcard on names.
        root: data root, for the state of datasets.

    Returns:
        One dict per name: ``name``, ``summary``, ``state``, ``missing`` modules, ``variants`` (methods only); for
        published tables ``list_tables``.
    """
    if kind == TABLES:
        return list_tables(pattern, root)
    names = [n for n in KINDS[kind].names() if fnmatch.fnmatchcase(n, pattern)]
    return [_row(kind, name, root) for name in names]


def _row(kind: str, name: str, root: Path) -> Row:
    entry = KINDS[kind].entry(name)
    row: Row = {"name": name, "summary": entry.summary, "state": "installed", "missing": list(entry.missing)}
    if entry.missing:
        row["state"] = f"needs: pip install 'rsbench[{entry.extra}]'" if entry.extra else "not installed"
        return row
    try:  # one broken plug-in must not hide the other names
        if kind == "methods":
            row["variants"] = list(load(kind, name).variants)
        if kind == "datasets":
            row["state"] = dataset_state(name, root)
        if kind == "backbones":
            row["state"] = backbone_state(name)
    except DependencyError as error:
        row["state"] = f"broken: {error}"
    return row


def load(kind: str, name: str) -> Any:
    """The card behind a name.

    Raises:
        DependencyError: its extra is absent, or the package that registers it is broken.
    """
    try:
        return KINDS[kind].load(name)
    except (ImportError, AttributeError) as error:
        target = KINDS[kind].entry(name).target
        raise DependencyError(f"{target} cannot be imported ({error}); reinstall the package that holds it") from error


def dataset_state(name: str, root: Path) -> str:
    """``packed`` with the short fingerprint (``local`` for own data), ``damaged``, or what has to be done first."""
    from rsbench.data.lifecycle import is_packed, store_folder
    from rsbench.data.local import is_local
    from rsbench.data.store import read_store

    card = load("datasets", name)
    if card.base:
        state = dataset_state(card.base, root)
        return f"part of {card.base}, {state}" if state.startswith("packed") else state
    if not is_packed(root, name):
        if card.generated:
            return "made on first use"
        way = "(downloads)" if card.assets or card.shards else "--source FILES (no download)"
        return f"needs: rsbench prepare {name} {way}"
    try:
        packed = f"packed {read_store(store_folder(root, name), name).fingerprint[:8]}"
        return f"local, {packed}" if is_local(name) else packed
    except DataError:
        return f"damaged; rsbench prepare {name} --overwrite"


def backbone_state(name: str) -> str:
    """``installed``, and whether pretrained weights lie in the hub's cache; neither downloads nor imports torch."""
    card = load("backbones", name)
    if card.weights[0] != "hub":
        return "installed"
    if not card.hub:
        return "installed, the model decides"
    from rsbench.backbones.hub import on_disk

    return "installed, weights local" if all(map(on_disk, card.hub)) else "installed, needs the hub"


def _cells(row: Row) -> tuple[str, str, str]:
    variants = row.get("variants", [])
    summary = row["summary"] + (f" (variants: {', '.join(variants)})" if variants else "")
    return f"  {row['name']}", row["state"], summary
