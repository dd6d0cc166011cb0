"""``rsbench bundle``: results as one archive for an appendix."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsbench.cli.console import console, errors, progress_bar
from rsbench.cli.emit import DEFAULT
from rsbench.errors import UsageError


def bundle(
    results: Annotated[list[Path], typer.Argument(help="Folders of results, searched recursively.")] = DEFAULT,
    output: Annotated[Path, typer.Option("--output", "-o", help="The archive.")] = Path("appendix.zip"),
    root: Annotated[Path | None, typer.Option(help="Data folder, for the noise lists; default: $RSBENCH_DATA.")] = None,
) -> None:
    """Tables, configs, results, noise lists and versions as one zip; the same results give the same bytes.

    rsbench bundle results/ -o appendix.zip
    """
    if output.suffix != ".zip" or output.is_dir() or not output.parent.is_dir():
        raise UsageError(f"--output '{output}' is no .zip in an existing folder; give for example -o appendix.zip")
    from rsbench.data.root import data_root
    from rsbench.experiment.bundle import make_bundle, write_bundle

    with progress_bar() as progress:
        made = make_bundle(results, data_root(root), progress)
    write_bundle(made, output)
    if made.failed:
        errors.print(f"{made.failed} failed run(s) left out", style="dim")
    for lacking in (n for n in made.noise if n.content is None):
        errors.print(
            f"warning: noise list {lacking.sha256[:16]} is not included: {lacking.reason}", markup=False, soft_wrap=True
        )
    lists = sum(n.content is not None for n in made.noise)
    size = output.stat().st_size / 1e6
    console.print(
        f"wrote {output}: {made.runs} runs, {lists} of {len(made.noise)} noise lists, {size:.1f} MB",
        markup=False,
        soft_wrap=True,
    )
