"""``rsbench diagnose``: what a run did with its training pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsbench.cli.console import console, print_rows, progress_bar
from rsbench.errors import UsageError


def diagnose(
    run: Annotated[Path, typer.Argument(help="Folder of a run made on this machine.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where the page goes; default: RUN/diagnosis.")
    ] = None,
    images: Annotated[
        int, typer.Option(help="Rank all training captions for at most this many images; 0 leaves it out.")
    ] = 500,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    root: Annotated[
        Path | None, typer.Option(help="Data folder; default: $RSBENCH_DATA, else ~/.cache/rsbench.")
    ] = None,
) -> None:
    """Figures, numbers per epoch and galleries from the pair records of a run, as one page.

    rsbench diagnose results/0123456789abcdef
    """
    if images < 0:
        raise UsageError(f"--images {images} is negative; give a number of images, or 0 to leave captions unranked")
    from rsbench.data.root import data_root
    from rsbench.experiment.diagnose import diagnose as make
    from rsbench.experiment.diagnose import table

    with progress_bar() as progress:
        found = make(run, data_root(root), out, images, device, progress)
    for name, value in found.facts:
        console.print(f"{name}: {value}", markup=False, soft_wrap=True)
    console.print()
    print_rows(*table(found))
    console.print()
    for name, share in found.rematch.items():
        console.print(f"rematched {name}: {share:.1%} of the mismatched pairs", markup=False)
    for note in found.notes:
        console.print(note, markup=False, soft_wrap=True)
    console.print(f"page: {found.folder / 'index.html'}", markup=False, soft_wrap=True)
