"""``rsbench compare`` and ``rsbench rank``: what of the differences is evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsbench.cli import filters
from rsbench.cli.emit import DEFAULT, Format, emit_tables, one_format
from rsbench.cli.filters import split_names
from rsbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_WORDS: list[str] = []


FormOption = Annotated[Format, typer.Option("--format", "-f", help="Output format.")]
Words = Annotated[list[str], typer.Argument(help="Two methods, then folders of results; with --against only folders.")]


def compare(
    words: Words = NO_WORDS,
    against: Annotated[str, typer.Option(help="Compare all other methods, or those of --method, with this one.")] = "",
    method: Annotated[str, typer.Option(help="With --against: only these methods: srem, or srem:VARIANT.")] = "",
    form: FormOption = Format.text,
    dataset: filters.Dataset = "",
    backbone: filters.Backbone = "",
    noise: filters.Noise = "",
    noise_kind: filters.NoiseKind = "",
    noise_unit: filters.NoiseUnit = "",
    recipe: filters.Recipe = "",
    as_json: filters.AsJson = False,
    output: filters.Output = None,
) -> None:
    """Paired differences of mR: over seeds (interval, sign-flip test) and over test queries (bootstrap).

    `rsbench compare rcl srem:u+w results/` subtracts the second from the first, at every noise rate of every table;
    `rsbench compare results/ --against infonce` compares many and corrects their p values (Holm).
    """
    one_format(form, as_json)
    ours, base, folders = _sides(words, against, split_names(method))
    from rsbench.report.comparison import compare as pair
    from rsbench.report.comparison_table import comparison_tables
    from rsbench.results.frame import load_results
    from rsbench.results.ranks import ranks_files

    found = filters.chosen(
        load_results(folders),
        [*split_names(method), base] if method else (),
        datasets=dataset,
        backbones=backbone,
        noise=noise,
        kinds=noise_kind,
        units=noise_unit,
        recipes=recipe,
    )
    emit_tables(comparison_tables(pair(found, ours, base, ranks_files(folders))), form, as_json, output)


def _sides(words: Sequence[str], against: str, methods: Sequence[str]) -> tuple[list[str], str, list[Path]]:
    """Methods to compare (empty for all), the one that is subtracted, and folders."""
    if against:
        for word in words:
            if not Path(word).exists():
                raise UsageError(
                    f"there is no folder '{word}'; with --against the words are folders of results, and methods are "
                    f"chosen with --method {word}"
                )
        return [], against, [Path(w) for w in words] or DEFAULT
    if methods:
        raise UsageError("--method belongs to --against; name the two methods first: rsbench compare rcl srem results/")
    if len(words) < 2:
        raise UsageError(
            f"compare got {len(words)} of two methods; type: rsbench compare rcl srem results/, "
            "or: rsbench compare results/ --against infonce"
        )
    return [words[0]], words[1], [Path(w) for w in words[2:]] or DEFAULT


def rank(
    results: Annotated[list[Path], typer.Argument(help="Folders of results, searched recursively.")] = DEFAULT,
    method: Annotated[str, typer.Option(help="Only these methods: srem, or srem:VARIANT.")] = "",
    form: FormOption = Format.text,
    dataset: filters.Dataset = "",
    backbone: filters.Backbone = "",
    noise: filters.Noise = "",
    noise_kind: filters.NoiseKind = "",
    noise_unit: filters.NoiseUnit = "",
    recipe: filters.Recipe = "",
    as_json: filters.AsJson = False,
    output: filters.Output = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the diagram into this file: .png or .svg.")] = None,
) -> None:
    """Average ranks over data sets, noise rates and seeds, with a critical-difference diagram."""
    one_format(form, as_json)
    from rsbench.report.diagram import check_plot, plot_ranking, text_diagram
    from rsbench.report.ranking import ranking, ranking_table
    from rsbench.results.frame import load_results

    if plot is not None:
        check_plot(plot)
    chosen = filters.chosen(
        load_results(results),
        split_names(method),
        datasets=dataset,
        backbones=backbone,
        noise=noise,
        kinds=noise_kind,
        units=noise_unit,
        recipes=recipe,
    )
    found = ranking(chosen)
    emit_tables([ranking_table(found)], form, as_json, output)
    if form is Format.text and not as_json and output is None:
        typer.echo("\n".join(text_diagram(found)))
    if plot is not None:
        plot_ranking(found, plot)
        typer.echo(f"wrote {plot}", err=True)
