"""``rsbench cost``: time, memory and parameters of methods beside a base method."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsbench.cli.table import DEFAULT, Format, emit_tables, one_format, split_names


def cost(
    results: Annotated[list[Path], typer.Argument(help="Folders of results, searched recursively.")] = DEFAULT,
    against: Annotated[
        str | None, typer.Option(help="Base method of the ratios; default: infonce where it was run.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="Only these datasets (comma separated).")] = "",
    method: Annotated[str, typer.Option(help="Only these methods: srem, or srem:VARIANT.")] = "",
    backbone: Annotated[str, typer.Option(help="Only these backbones.")] = "",
    noise: Annotated[str, typer.Option(help="Only these noise rates, for example 0.4.")] = "",
    published: Annotated[
        bool, typer.Option("--published", help="The costs that papers printed below ours (SREM, table 4).")
    ] = False,
    form: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = Format.text,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Seconds per epoch, peak memory and trainable parameters of each method, as ratios to a base method.

    rsbench cost results/ --against infonce
    """
    one_format(form, as_json)
    from rsbench.report.cost import cost_tables
    from rsbench.report.printed_cost import printed_costs
    from rsbench.report.select import select
    from rsbench.results.frame import load_results

    chosen = select(
        load_results(results),
        datasets=split_names(dataset),
        methods=split_names(method),
        backbones=split_names(backbone),
        noise=split_names(noise),
    )
    printed = printed_costs(against) if published else []
    emit_tables([*cost_tables(chosen, against), *printed], form, as_json, output)
