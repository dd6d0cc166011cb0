"""``rsbench prepare``: bring a dataset into its packed form and report on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsbench.cli.console import console, print_json, print_rows, progress_bar

if TYPE_CHECKING:
    from rsbench.data.report import Report

Source = Annotated[
    str | None, typer.Option("--source", "--images", help="Folder, zip, tar or tar.gz; shards: also an address.")
]
Captions = Annotated[
    Path | None, typer.Option("--captions", help="Caption JSON or CSV; default: the JSON inside the source.")
]
Root = Annotated[Path | None, typer.Option("--root", help="Data root; default: RSBENCH_DATA, else ~/.cache/rsbench.")]
Size = Annotated[int | None, typer.Option("--image-size", help="Side of the packed images in pixels.")]


def prepare(
    dataset: Annotated[str, typer.Argument(help="Dataset (`rsbench list datasets`), or a new name for yours.")],
    source: Source = None,
    captions: Captions = None,
    root: Root = None,
    image_size: Size = None,
    samples: Annotated[int | None, typer.Option("--samples", help="Pairs to take from shards (rs5m).")] = None,
    no_download: Annotated[bool, typer.Option("--no-download", help="Stay off the network.")] = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Accept missing or unreadable images; results carry the count.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Pack again.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Pack a dataset once, from local files or by download, and report on it.

    The report counts images and captions per split, duplicate captions, and the highest text-to-image recall
    that duplicates allow. What is packed already is only reported. Your own pairs need a name that is not taken:

    rsbench prepare mydata --images photos/ --captions pairs.csv
    """
    from rsbench.data import lifecycle
    from rsbench.data.root import data_root

    with progress_bar() as progress:
        report = lifecycle.prepare(
            dataset,
            data_root(root),
            source=source,
            captions=captions,
            download=not no_download,
            allow_partial=allow_partial,
            image_size=image_size,
            samples=samples,
            overwrite=overwrite,
            progress=progress,
        )
    if json:
        print_json(report.to_json())
    else:
        _show(report)


def _show(report: Report) -> None:
    state = "packed" if report.packed_now else "packed already (--overwrite packs it again)"
    size = f"{report.image_size} x {report.image_size} px"
    if report.regions:
        size = "{} regions of {} values each".format(*report.regions)
    for line in (f"{report.title}: {state}", f"store        {report.folder}", f"fingerprint  {report.fingerprint}"):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"images       {size}, {report.classes or 'no'} scene classes\n")
    print_rows(
        ["split", "part", "images", "captions", "distinct", "images repeating a caption", "captions of several images"],
        [
            [scheme, part, *(f"{n:,}" for n in (c.images, c.captions, c.distinct, c.repeating, c.shared))]
            for scheme, parts in report.splits.items()
            for part, c in parts.items()
        ],
    )
    console.print("\nhighest text-to-image recall that duplicate captions allow on the test set")
    print_rows(
        ["split", *(f"R@{k}" for k in (1, 5, 10))],
        [[scheme, *(f"{v:.2f}" for v in bound.values())] for scheme, bound in report.t2i_bound.items()],
    )
    console.print("")
    if report.missing:
        shown = ", ".join(report.missing[:5]) + (", ..." if len(report.missing) > 5 else "")
        console.print(f"missing      {len(report.missing)} images left out: {shown}", soft_wrap=True, markup=False)
    for note in report.notes:
        console.print(f"note         {note}", soft_wrap=True, markup=False)
