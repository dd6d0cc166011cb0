"""``rsbench noise``: make, convert and inspect noise lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsbench.cli.console import console, errors, progress_bar
from rsbench.cli.run import PmpQuantile, PmpThreshold, ScorerOption
from rsbench.errors import UsageError

if TYPE_CHECKING:
    from rsbench.data.dataset import Dataset
    from rsbench.noise.index import NoiseIndex
    from rsbench.progress import Progress

DEFAULTS: dict[str, Any] = {"unit": "caption", "seed": 42}

FIELDS = {"pmp-threshold": "threshold", "pmp-quantile": "quantile"}
"""Fields of a noise spec whose flag has another name."""

MANIFEST_KEYS = ("threshold", "threshold_from", "share_below", "replaced", "share_fallback", "scorer", "warnings")


def noise(
    dataset: Annotated[str, typer.Argument(help="Dataset, for example rsitmd.")],
    rate: Annotated[float | None, typer.Option(help="Share of units to shuffle or replace, in [0, 1).")] = None,
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
    scorer: ScorerOption = None,
    pmp_threshold: PmpThreshold = None,
    pmp_quantile: PmpQuantile = None,
    plot: Annotated[
        Path | None, typer.Option(help="Kind pmp: draw the scores and the threshold (.png, .svg, .pdf).")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Data folder. Default: $RSBENCH_DATA.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make, convert and inspect the list of training pairs under noise."""
    typed = {"rate": rate, "unit": unit, "seed": seed, "source": source}
    typed |= {"scorer": scorer, "pmp-threshold": pmp_threshold, "pmp-quantile": pmp_quantile}
    typed["rate"] = 0.0 if rate is None and read is None and kind in ("none", "real") else rate
    _check_flags(typed, read, name, write, form)
    if plot is not None:
        _check_plot(plot, kind, read, source)
    from rsbench.data.lifecycle import open_dataset
    from rsbench.data.root import data_root
    from rsbench.registry import DATASETS

    place = data_root(root)
    split = split or DATASETS.load(dataset).default_split
    with progress_bar() as progress:
        data = open_dataset(dataset, place, progress)
        made = None if read is not None else _make(data, split, kind, typed, place, progress)
    index = made or _import(data, split, kind, read, name, place)
    manifest = _manifest(data, index, place)
    facts = _facts(data, index) | {k: manifest[k] for k in MANIFEST_KEYS if k in manifest}
    if plot is not None:
        facts["plot"] = _plot(manifest, plot)
    if write is not None:
        from rsbench.noise.formats import write_pairs

        facts |= {"exported": str(write), "form": write_pairs(data, index, write, form)}
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _show(facts, manifest)


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
        others = ", ".join(f for f in flags if f != "--source")
        raise UsageError(f"{others} cannot go with --source {source}: the file decides; leave it out")
    if read is None and typed["rate"] is None and not source.startswith("file:"):
        raise UsageError("no noise rate given; type for example --rate 0.4, or --import FILE")


def _check_plot(plot: Path, kind: str, read: Path | None, source: str | None) -> None:
    from rsbench.report.scores import check_plot

    if kind != "pmp" or read is not None or source not in (None, "generated"):
        raise UsageError("--plot draws the scores of a list made here with --kind pmp; leave it out")
    check_plot(plot)


def _make(data: Dataset, split: str, kind: str, typed: dict[str, Any], root: Path, progress: Progress) -> NoiseIndex:
    from rsbench.experiment.scorer import ensure_list, scorer_address
    from rsbench.noise.index import NoiseSpec
    from rsbench.noise.make import make_index, resolve_source
    from rsbench.noise.pseudo_match import PMP
    from rsbench.registry import DATASETS

    given = DEFAULTS | {FIELDS.get(k, k): v for k, v in typed.items() if v is not None and k != "source"}
    rate = given.setdefault("rate", 0.0)
    if kind == PMP:
        given["scorer"] = scorer_address(typed["scorer"])
    card = DATASETS.load(data.name)
    source = resolve_source(card, split, kind, given["unit"], rate, typed["source"])
    spec = NoiseSpec(kind=kind, source=source, **given)
    ensure_list(data, split, spec, typed["scorer"], root, progress)
    return make_index(data, split, spec, root)


def _import(data: Dataset, split: str, kind: str, read: Path | None, name: str | None, root: Path) -> NoiseIndex:
    from rsbench.noise.imported import import_index, store_index

    assert read is not None
    index = import_index(data, split, read, kind, name)
    if name:
        store_index(root, name, index)
    return index


def _plot(manifest: dict[str, Any], path: Path) -> str:
    from rsbench.report.scores import plot_scores

    plot_scores(manifest, path)
    return str(path)


def _manifest(data: Dataset, index: NoiseIndex, root: Path) -> dict[str, Any]:
    """How a list of kind ``pmp`` was made; empty for others, and for imported ones."""
    from rsbench.noise.pseudo_match_store import is_drawn, read_manifest

    return read_manifest(data, index.split, index.spec, root) if is_drawn(index.spec) else {}


def _facts(data: Dataset, index: NoiseIndex) -> dict[str, Any]:
    from dataclasses import asdict

    from rsbench.noise.inspect import summarise

    summary = asdict(summarise(data, index))
    facts: dict[str, Any] = {"dataset": index.dataset, "fingerprint": index.fingerprint, "split": index.split}
    facts |= {k: v for k, v in asdict(index.spec).items() if v not in ("", None)}
    facts |= {"pairs": summary.pop("pairs"), "sha256": index.sha256}
    if facts["source"] != "generated":
        del facts["seed"]
    return facts | summary


def _show(facts: dict[str, Any], manifest: dict[str, Any]) -> None:
    """A table on a terminal; elsewhere one tab-separated line a fact."""
    lines = {k: v for k, v in facts.items() if k not in ("fingerprint", "realised", "noisy_per_image", "noisy_images")}
    for warning in lines.pop("warnings", []):
        errors.print(f"warning: {warning}", markup=False, soft_wrap=True)
    lines |= {"scorer": facts["scorer"]["name"]} if manifest else {}
    lines |= {f"realised {k}": "not known" if v is None else f"{v:.4f}" for k, v in facts["realised"].items()}
    if facts["noisy_images"] is not None:
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
    if manifest:
        from rsbench.report.scores import text_histogram

        console.print("\n".join(text_histogram(manifest)), markup=False, soft_wrap=True)
