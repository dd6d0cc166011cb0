"""``rsbench mock``: push a method through the contract test."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from rsbench.cli.console import console, progress_bar
from rsbench.errors import UsageError


def mock(
    method: Annotated[str, typer.Argument(help="NAME, NAME:VARIANT, FILE.py or FILE.py:Class.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Hyper-parameter to set, such as method.tau=0.05; repeatable.")
    ] = None,
) -> None:
    """Test a method, your own too, against the contract: on CPU, on random features, in under a minute."""
    params = _params(set_ or [])

    from rsbench.experiment.resolve import split_variant
    from rsbench.methods.contract import check_method

    name, variant = split_variant(method)
    with progress_bar() as progress:
        checks = check_method(name, progress, variant if variant != "full" else None, params)
    for check in checks:
        mark = "[green]ok[/]    " if check.ok else "[bold red]failed[/]"
        detail = f": {escape(check.detail)}" if check.detail else ""
        console.print(f"{mark} {escape(check.name)}{detail}", soft_wrap=True)
    failed = sum(not check.ok for check in checks)
    console.print(f"{len(checks) - failed} of {len(checks)} checks passed for {escape(method)}")
    if failed:
        raise typer.Exit(1)


def _params(items: list[str]) -> dict[str, str]:
    """``method.tau=0.05`` or ``tau=0.05`` as field and value."""
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        scope, _, field = key.rpartition(".")
        if not equals or not field or scope not in ("", "method"):
            raise UsageError(f"--set '{item}' is not understood by mock; use --set method.FIELD=VALUE")
        found[field] = value
    return found
