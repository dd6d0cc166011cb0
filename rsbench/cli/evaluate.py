"""``rsbench eval``: score finished runs, on their own or another dataset."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import typer

from rsbench.cli.console import errors, print_rows, progress_bar
from rsbench.cli.weights import warn_of_weights
from rsbench.errors import UsageError

OVERLAP = {frozenset({"rsitmd", "rsicd"}), frozenset({"rsitmd", "rsicd-2k"})}
"""Datasets that share pictures: RSITMD was partly made from RSICD's."""


def evaluate(
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of finished runs; several are averaged.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Another dataset (zero-shot).")] = None,
    split: Annotated[str | None, typer.Option(help="Split scheme; default: the run's, else the dataset's.")] = None,
    part: Annotated[str, typer.Option(help="Part: val or test (train for a look at memorisation).")] = "test",
    backbone: Annotated[str | None, typer.Option("--backbone", "-b", help="A pretrained backbone as it comes.")] = None,
    weights: Annotated[str, typer.Option(help="Its weights: hub, random or a local file.")] = "",
    folds: Annotated[int, typer.Option(help="Average over this many folds of the part (COCO 1K: 5).")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    root: Annotated[
        Path | None, typer.Option(help="Data folder; default: $RSBENCH_DATA, else ~/.cache/rsbench.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score finished runs, or a pretrained backbone without training, on their own dataset or another one.

    rsbench eval results/0123456789abcdef --dataset rsicd
    rsbench eval --backbone clip-vit-b32 --dataset rsitmd
    """
    if bool(runs) == bool(backbone):
        raise UsageError("give folders of finished runs, or a pretrained --backbone with a --dataset; not both")
    if backbone and not dataset:
        raise UsageError(
            f"--backbone {backbone} needs a dataset to score: --dataset NAME (see `rsbench list datasets`)"
        )
    from rsbench.data.root import data_root
    from rsbench.experiment.evaluate import Scoring, evaluate_backbone, evaluate_run

    with progress_bar() as progress:
        how = Scoring(data_root(root), split, part, folds, device, progress)
        rows = [evaluate_run(r, how, dataset) for r in runs or ()]
        if backbone and dataset:
            rows.append(evaluate_backbone(backbone, how, dataset, weights))
    warn_of_weights([(backbone, weights)] if backbone else [])
    for trained, scored in {(row["trained_on"], row["dataset"]) for row in rows}:
        if frozenset({trained, scored}) in OVERLAP:
            errors.print(
                f"warning: {trained} and {scored} share pictures (at least 512 of RSICD's 1,093 test images); "
                "these figures are no clean zero-shot result",
                soft_wrap=True,
            )
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    _print(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    names = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10", "mr", "rsum", "i2t_medr", "t2i_medr")
    lines = [
        [r["run"], r["method"].removesuffix(":full"), r["dataset"], *(f"{r['metrics'][n]:.2f}" for n in names)]
        for r in rows
    ]
    if len(rows) > 1:
        columns = [[row["metrics"][n] for row in rows] for n in names]
        lines.append(["mean", "", "", *(f"{statistics.mean(c):.2f}" for c in columns)])
        lines.append(["± (n-1)", "", "", *(f"{statistics.stdev(c):.2f}" for c in columns)])
    print_rows(("run", "method", "dataset", *names), lines)
