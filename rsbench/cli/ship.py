"""``rsbench export`` and ``rsbench import``: results from one machine to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsbench.cli.console import console, errors, progress_bar
from rsbench.errors import UsageError

DEFAULT = [Path("results")]


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="Tar file to write.")],
    results: Annotated[list[Path], typer.Argument(help="Folders of results, searched recursively.")] = DEFAULT,
    weights: Annotated[bool, typer.Option("--weights", help="With the best weights.")] = False,
    pairs: Annotated[bool, typer.Option("--pairs", help="With the per-pair records.")] = False,
) -> None:
    """Write finished and failed runs as one tar, for `rsbench import` on another machine.

    rsbench export results/toy -o toy.tar
    """
    if output.suffix != ".tar" or output.is_dir() or not output.parent.is_dir():
        raise UsageError(f"--output '{output}' is no .tar in an existing folder; give for example -o grid.tar")
    from rsbench.experiment.ship import export as write

    with progress_bar() as progress:
        taken = write(results, output, weights, pairs, progress)
    for name, why in taken.left.items():
        errors.print(f"left out: run {name}: {why}", markup=False, soft_wrap=True)
    size = output.stat().st_size / 1e6
    console.print(f"wrote {output}: {len(taken.runs)} runs, {size:.1f} MB", markup=False, soft_wrap=True)


def import_(
    archives: Annotated[list[Path], typer.Argument(help="Tar files of `rsbench export`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Results folder to merge into.")] = Path("results"),
) -> None:
    """Merge exported runs into a results folder; a finished run is never written over.

    rsbench import laptop.tar cluster.tar --out results/grid
    """
    from rsbench.experiment.receive import import_runs

    with progress_bar() as progress:
        merged = import_runs(archives, out, progress)
    for place, archive in merged.clashes:
        line = f"clash: run {place.name} has other numbers in {archive} than in {place}; the latter is kept"
        errors.print(line, markup=False, soft_wrap=True)
    for line in merged.busy:
        errors.print(f"left out: {line}", markup=False, soft_wrap=True)
    words = f"{len(merged.taken)} runs imported, {len(merged.same)} were here already"
    words += f", {len(merged.kept)} unfinished ones left out" if merged.kept else ""
    words += f", {len(merged.clashes)} clashes" if merged.clashes else ""
    console.print(f"{out}: {words}", markup=False, soft_wrap=True)
    if merged.clashes or merged.busy:
        raise typer.Exit(1)
