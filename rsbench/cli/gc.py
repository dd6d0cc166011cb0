"""``rsbench gc``: delete what finished and killed runs left behind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsbench.cli.console import console, errors, print_json, print_rows

if TYPE_CHECKING:
    from rsbench.experiment.tidy import Leftover

MOST = 20
"""Files that are listed one by one, the largest first; empty ones are only counted."""


def gc(
    results: Annotated[Path, typer.Argument(help="Results folder.")] = Path("results"),
    weights: Annotated[bool, typer.Option("--weights", help="Weights of finished runs, too.")] = False,
    features: Annotated[bool, typer.Option("--features", help="Feature caches that no run can use, too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it nothing is touched.")] = False,
    root: Annotated[
        Path | None, typer.Option(help="Data folder; default: $RSBENCH_DATA, else ~/.cache/rsbench.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List checkpoints of finished runs, stale locks and leftovers; delete them with --yes.

    rsbench gc results/toy
    """
    from rsbench.experiment.tidy import feature_leftovers, leftovers, remove

    found = leftovers(results, weights)
    if features:
        from rsbench.data.root import data_root

        found += feature_leftovers(data_root(root))
    gone, kept = remove(found) if yes else (found, [])
    if as_json:
        print_json({"deleted": yes, "items": [_row(i) for i in gone], "kept": kept})
    else:
        _print(gone, yes, results)
    for line in kept:
        errors.print(f"kept: {line}", markup=False, soft_wrap=True)
    if kept:
        raise typer.Exit(1)


def _row(item: Leftover) -> dict[str, str | int]:
    return {"path": str(item.path), "bytes": item.bytes, "why": item.why}


def _print(items: list[Leftover], deleted: bool, results: Path) -> None:
    if not items:
        console.print(f"nothing to delete in {results}", markup=False)
        return
    listed = sorted((i for i in items if i.bytes), key=lambda i: -i.bytes)
    if listed:
        print_rows(("MB", "what", "path"), [(_mb(i.bytes), i.why, str(i.path)) for i in listed[:MOST]])
    if len(listed) > MOST:
        console.print(f"and {len(listed) - MOST} more (all of them: --json)")
    for why, n in Counter(i.why for i in items).items():
        size = sum(i.bytes for i in items if i.why == why)
        console.print(f"{n} x {why}: {_mb(size)} MB", markup=False, soft_wrap=True)
    total = _mb(sum(i.bytes for i in items))
    end = f"deleted {total} MB" if deleted else f"{total} MB could be deleted; do it with --yes"
    console.print(end, markup=False)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"
