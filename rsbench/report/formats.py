"""Name of a format -> text of the tables."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rsbench.errors import UnknownNameError
from rsbench.registry import resolve
from rsbench.report.table import Table


def _json(tables: Sequence[Table]) -> str:
    return json.dumps([t.as_dict() for t in tables], indent=1, allow_nan=False) + "\n"


FORMATS = {name: f"rsbench.report.{name}:render" for name in ("text", "markdown", "latex", "csv", "html")}


def render(tables: Sequence[Table], form: str) -> str:
    """Tables in one of ``FORMATS`` or as ``json``.

    Raises:
        UnknownNameError: no such format.
    """
    if form == "json":
        return _json(tables)
    if form not in FORMATS:
        raise UnknownNameError("format", form, (*FORMATS, "json"))
    return str(resolve(FORMATS[form])(tables))
