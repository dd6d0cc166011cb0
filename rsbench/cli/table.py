"""``rsbench table``: stored results as the tables of a paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsbench.cli import filters
from rsbench.cli.console import console, errors
from rsbench.cli.emit import DEFAULT, Format, emit_tables, one_format
from rsbench.cli.filters import split_names
from rsbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsbench.report.table import Table
    from rsbench.results.schema import Result


def _tables(incomplete: str) -> list[str]:
    """Names of published tables, for completion."""
    from rsbench.experiment.benchmarks import benchmark_names

    return [name for name in benchmark_names() if name.startswith(incomplete)]


def table(
    results: Annotated[list[Path], typer.Argument(help="Folders of results, searched recursively.")] = DEFAULT,
    form: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = Format.text,
    dataset: filters.Dataset = "",
    method: Annotated[str, typer.Option(help="Only these methods: srem, or srem:VARIANT.")] = "",
    backbone: filters.Backbone = "",
    noise: filters.Noise = "",
    noise_kind: filters.NoiseKind = "",
    noise_unit: filters.NoiseUnit = "",
    recipe: filters.Recipe = "",
    sort: Annotated[str, typer.Option(help="Order within a rate: mr, another metric, method or backbone.")] = "mr",
    validation: Annotated[bool, typer.Option("--validation", help="Only searches on validation.")] = False,
    folds: Annotated[int, typer.Option(help="Means over so many folds of the test part (COCO 1K: 5).")] = 1,
    wide: Annotated[bool, typer.Option("--wide", help="Noise rates as columns of mR.")] = False,
    rivals: Annotated[bool, typer.Option("--rivals", help="Mark the best with its rivals within noise.")] = False,
    pool: Annotated[str, typer.Option(help="Average over these settings although they differ.")] = "",
    published: Annotated[bool, typer.Option("--published", help="Put published numbers beside ours.")] = False,
    benchmark: Annotated[
        str,
        typer.Option(help="Lay our runs out as this published table: rrsitr-table1.", autocompletion=_tables),
    ] = "",
    std: Annotated[bool, typer.Option("--std/--no-std", help="Show ± (in every format).")] = True,
    as_json: filters.AsJson = False,
    output: filters.Output = None,
    curves: Annotated[
        Path | None, typer.Option(help="Write mR against noise as figures instead: FILE.png, .svg or .pdf.")
    ] = None,
) -> None:
    """Print mean ± sample standard deviation over seeds, best bold, second underlined."""
    one_format(form, as_json)
    _check(published, benchmark, wide=wide, validation=validation, sort=sort, rivals=rivals, folds=folds)
    from rsbench.report.folds import check_folds, over_folds
    from rsbench.results.frame import load_results

    found = load_results(results)
    check_folds(found, folds)
    chosen = filters.chosen(
        over_folds(found, folds),
        split_names(method),
        validation or None,
        datasets="" if benchmark else dataset,
        backbones=backbone,
        recipes=recipe,
        kinds=noise_kind,
        units=noise_unit,
        noise="" if benchmark else noise,
    )
    _tell_hidden(found, chosen)
    if curves is not None:
        _draw(chosen, curves, published or bool(benchmark))
        return
    if benchmark:
        tables = [_as_published(benchmark, chosen, dataset, noise, split_names(pool))]
    else:
        tables = _tables_of(chosen, sort, split_names(pool), wide, rivals)
    if published:
        from rsbench.report.published import beside

        tables = beside(tables, chosen, split_names(pool))
    emit_tables(tables, form, as_json, output, std)


def _check(
    published: bool, benchmark: str, *, wide: bool, validation: bool, sort: str, rivals: bool, folds: int
) -> None:
    """Refuse what has no meaning together."""
    first = "--published" if published else f"--benchmark {benchmark}"
    if not (published or benchmark):
        return
    if published and benchmark:
        raise UsageError("--benchmark shows the published numbers anyway: drop --published")
    if wide:
        raise UsageError(f"{first} and --wide exclude each other: the long table has a row for each printed one")
    if validation:
        raise UsageError(f"{first} and --validation exclude each other: published numbers are test numbers")
    if benchmark and sort != "mr":
        raise UsageError(f"{first} and --sort exclude each other: the printed order stays")
    if benchmark and folds != 1:
        raise UsageError(f"{first} takes the figures of each printed row's own test set: drop --folds")
    if benchmark and rivals:
        raise UsageError(f"{first} and --rivals exclude each other: a table with gaps marks no best")


def _draw(chosen: Sequence[Result], path: Path, printed: bool) -> None:
    """The curves of every table, a file each."""
    from rsbench.report.noise_curves import write_noise_curves
    from rsbench.report.plots import FORMS

    if printed:
        raise UsageError("--curves shows our runs alone: drop --published or --benchmark")
    if path.suffix.lower() not in FORMS or not path.parent.is_dir():
        raise UsageError(f"--curves '{path}': give a file in an existing folder that ends in {', '.join(FORMS)}")
    for file, title in write_noise_curves(chosen, path):
        console.print(f"wrote {file}: {title}", markup=False, soft_wrap=True)


def _tables_of(chosen: Sequence[Result], sort: str, pool: list[str], wide: bool, rivals: bool) -> list[Table]:
    from rsbench.report.build import build_tables

    tables = build_tables(chosen, sort=sort, pool=pool, wide=wide)
    if not rivals:
        return tables
    from rsbench.report.rivals import with_rivals

    return with_rivals(tables, chosen)


def _as_published(name: str, chosen: Sequence[Result], dataset: str, noise: str, pool: list[str]) -> Table:
    """Our runs as the rows of a published table; the filters choose rows of it, or take their dataset's place."""
    from rsbench.data.root import data_root
    from rsbench.experiment.benchmarks import Changes, load_benchmark
    from rsbench.experiment.request import parse_rates
    from rsbench.report.beside import slot_of
    from rsbench.report.groups import check_pool
    from rsbench.report.layout import layout_table

    if pool:
        check_pool(pool, chosen)
    changes = Changes(tuple(split_names(dataset)), parse_rates(noise) if noise else ())
    table = load_benchmark(name, data_root(), changes)
    datasets = dict.fromkeys(line.row.dataset for line in table.lines)
    title = f"ours as {name}: {table.paper.name} ({table.paper.venue}), table {table.table}: {', '.join(datasets)}"
    notes = [f"read as: {'; '.join(table.decided)}"] if table.decided else []
    notes += [f"not as published: {'; '.join(table.changed)}"] if table.changed else []
    slots = [slot_of(line.row, own) for line in table.lines for own in line.request.datasets]
    return layout_table(title, slots, chosen, notes=notes, pool=pool)


def _tell_hidden(found: Sequence[Result], chosen: Sequence[Result]) -> None:
    """Say on stderr what stands beside what is shown: searches on validation, means over folds."""
    searches = sum(not r["spec"].get("held_out", True) for r in found)
    if searches and all(r["spec"].get("held_out", True) for r in chosen):
        errors.print(f"searches on validation that are not shown: {searches} (see them with --validation)", style="dim")
    for n in sorted({r["folds"]["n"] for r in chosen if "folds" in r and "folds" not in r["spec"]}):
        errors.print(f"figures are those of the whole test part; means over {n} folds of it: --folds {n}", style="dim")
