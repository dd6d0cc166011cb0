"""``rsbench cost``: time, memory and parameters of methods beside a base method."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsbench.cli import filters
from rsbench.cli.emit import DEFAULT, Format, emit_tables, one_format
from rsbench.cli.filters import split_names


def cost(
    results: Annotated[list[Path], typer.Argument(help="Folders of results, searched recursively.")] = DEFAULT,
    against: Annotated[
        str | None, typer.Option(help="Base method of the ratios; default: infonce where it was run.")
    ] = None,
    dataset: filters.Dataset = "",
    method: Annotated[str, typer.Option(help="Only these methods: srem, or srem:VARIANT.")] = "",
    backbone: filters.Backbone = "",
    noise: filters.Noise = "",
    published: Annotated[
        bool, typer.Option("--published", help="The costs that papers printed below ours (SREM, table 4).")
    ] = False,
    form: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = Format.text,
    as_json: filters.AsJson = False,
    output: filters.Output = None,
) -> None:
    """Seconds per epoch, peak memory and trainable parameters of each method, as ratios to a base method.

    rsbench cost results/ --against infonce
    """
    one_format(form, as_json)
    from rsbench.report.cost import cost_tables
    from rsbench.report.printed_cost import printed_costs
    from rsbench.results.frame import load_results

    found = load_results(results)
    chosen = filters.chosen(found, split_names(method), datasets=dataset, backbones=backbone, noise=noise)
    printed = printed_costs(against) if published else []
    emit_tables([*cost_tables(chosen, against), *printed], form, as_json, output)
