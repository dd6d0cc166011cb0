"""``rsbench noise``: make, convert and inspect noise lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsbench.cli.console import console, progress_bar
from rsbench.errors import UsageError

if TYPE_CHECKING:
    from rsbench.data.dataset import Dataset
    from rsbench.noise.index import NoiseIndex

DEFAULTS: dict[str, Any] = {"unit": "caption", "seed": 42}


def noise(
    dataset: Annotated[str, typer.Argument(help="Dataset, for example rsitmd.")],
    rate: Annotated[float | None, typer.Option(help="Share of units to shuffle, in [0, 1).")] = None,
    unit: Annotated[str | None, typer.Option(help="caption (NCR, RRSITR) or image (RCL). Default: caption.")] = None,
    kind: Annotated[str, typer.Option(help="Noise kind, see `rsbench list noise`.")] = "shuffle",
    seed: Annotated[int | None, typer.Option(help="Noise seed of a generated list. Default: 42.")] = None,
    source: Annotated[
        str | None, typer.Option(help="official, generated or file:NAME. Default: official where there is a list.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split scheme. Default: the dataset's first.")] = None,
    read: Annotated[Path | None, typer.Option("--import", help="Read this list instead (.npy, .csv, .csv.gz).")] = None,
    name: Annotated[str | None, typer.Option(help="Keep the imported list; use it as source file:NAME.")] = None,
    write: Annotated[Path | None, typer.Option("--export", help="Write the list (.npy, .csv, .csv.gz).")] = None,
    form: Annotated[
        str | None, typer.Option(help="Form of --export: per-caption, per-image, pairs, csv (RRSITR) or rows.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Data folder. Default: $RSBENCH_DATA.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make, convert and inspect the list of training pairs under noise."""
    typed = {"rate": rate, "unit": unit, "seed": seed, "source": source}
    _check_flags(typed, read, name, write, form)
    from rsbench.data.lifecycle import open_dataset
    from rsbench.data.root import data_root
    from rsbench.registry import DATASETS

    place = data_root(root)
    split = split or DATASETS.load(dataset).default_split
    with progress_bar() as progress:
        data = open_dataset(dataset, place, progress)
    if read is None:
        index = _make(data, split, kind, typed, place)
    else:
        from rsbench.noise.imported import import_index, store_index

        index = import_index(data, split, read, kind, name)
        if name:
            store_index(place, name, index)
    facts = _facts(data, index)
    if write is not None:
        from rsbench.noise.formats import write_pairs

        facts |= {"exported": str(write), "form": write_pairs(data, index, write, form)}
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _show(facts)


def _check_flags(
    typed: dict[str, Any], read: Path | None, name: str | None, write: Path | None, form: str | None
) -> None:
    flags = [f"--{k}" for k, v in typed.items() if v is not None]
    source = str(typed["source"] or "")
    if read is not None and flags:
        raise UsageError(f"{', '.join(flags)} cannot go with --import: the file decides; leave it out")
    if read is None and name is not None:
        raise UsageError("--name keeps an imported list; add --import FILE")
    if write is None and form is not None:
        raise UsageError("--form is the form of the exported file; add --export FILE")
    if source.startswith("file:") and len(flags) > 1:
        raise UsageError(
            f"--rate, --unit and --seed cannot go with --source {source}: the file decides; leave them out"
        )
    if read is None and typed["rate"] is None and not source.startswith("file:"):
        raise UsageError("no noise rate given; type for example --rate 0.4, or --import FILE")


def _make(data: Dataset, split: str, kind: str, typed: dict[str, Any], root: Path) -> NoiseIndex:
    from rsbench.noise.index import NoiseSpec
    from rsbench.noise.make import make_index, resolve_source
    from rsbench.registry import DATASETS

    given = DEFAULTS | {k: v for k, v in typed.items() if v is not None and k != "source"}
    rate = given.setdefault("rate", 0.0)
    card = DATASETS.load(data.name)
    source = resolve_source(card, split, kind, given["unit"], rate, typed["source"])
    return make_index(data, split, NoiseSpec(kind=kind, source=source, **given), root)


def _facts(data: Dataset, index: NoiseIndex) -> dict[str, Any]:
    from dataclasses import asdict

    from rsbench.noise.inspect import summarise

    summary = asdict(summarise(data, index))
    facts: dict[str, Any] = {"dataset": index.dataset, "fingerprint": index.fingerprint, "split": index.split}
    facts |= asdict(index.spec) | {"pairs": summary.pop("pairs"), "sha256": index.sha256}
    if facts["source"] != "generated":
        del facts["seed"]
    return facts | summary


def _show(facts: dict[str, Any]) -> None:
    """A table on a terminal; elsewhere one tab-separated line a fact."""
    lines = {k: v for k, v in facts.items() if k not in ("fingerprint", "realised", "noisy_per_image", "noisy_images")}
    lines |= {f"realised {k}": f"{v:.4f}" for k, v in facts["realised"].items()}
    lines["images with mismatched text"] = f"{facts['noisy_images']:,} of {lines.pop('images'):,}"
    lines |= {f"images with {k} mismatched": f"{n:,}" for k, n in enumerate(facts["noisy_per_image"])}
    if not console.is_terminal:
        for key, value in lines.items():
            print(f"{key}\t{value}")
        return
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in lines.items():
        table.add_row(key, str(value))
    console.print(table)
