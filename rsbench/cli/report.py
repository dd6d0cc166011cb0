"""``rsbench report``: results as one static site."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rsbench.cli.console import console, errors, progress_bar
from rsbench.cli.emit import DEFAULT


class Pictures(StrEnum):
    """Whose pictures go into a report."""

    none = "none"
    toy = "toy"
    all = "all"


def report(
    results: Annotated[list[Path], typer.Argument(help="Folders of results, searched recursively.")] = DEFAULT,
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder, or an older report.")] = Path("report"),
    against: Annotated[
        str | None, typer.Option(help="Base method of differences and ratios; default: infonce where it was run.")
    ] = None,
    galleries: Annotated[
        Pictures, typer.Option(help="Pictures of toy, or of all datasets: such a report must not be published.")
    ] = Pictures.none,
    device: Annotated[str, typer.Option(help="For galleries: auto, cpu, cuda or cuda:N.")] = "auto",
    root: Annotated[
        Path | None, typer.Option(help="Data folder; default: $RSBENCH_DATA, else ~/.cache/rsbench.")
    ] = None,
) -> None:
    """Leaderboard, curves, statistics, methods and runs as pages that open from disk.

    rsbench report results/ -o report/
    """
    from rsbench.report.plots import require_extra
    from rsbench.report.site_folder import check_folder

    require_extra()
    check_folder(output)
    from rsbench.data.root import data_root
    from rsbench.experiment.site import Sources, gather
    from rsbench.report.site import write_site

    sources = Sources(data_root(root), galleries.value, device, against)
    with progress_bar() as progress:
        material = gather(results, sources, progress)
        pages = write_site(material, output, progress)
    for line in material.warnings:
        errors.print(line, markup=False, soft_wrap=True, style="dim")
    console.print(
        f"wrote {output / 'index.html'}: {len(material.results)} runs of {len(material.methods)} methods, "
        f"{pages} pages",
        markup=False,
        soft_wrap=True,
    )
