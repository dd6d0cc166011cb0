"""Caption tables: CSV or TSV with a header, one row per image-text pair."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator, Mapping
from typing import Any

from rsbench.errors import DataError

NEEDED, OPTIONAL = ("filename", "caption"), ("split", "class")
ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")

_Row = Mapping[str, str]


def plain_schema(text: str, name: str) -> dict[str, Any]:
    """A caption table as the plain JSON schema, ``{"images": [{"filename", "captions", "split", "class"}]}``.

    Rows of one image need not be neighbours; images keep the order of their first row.

    Args:
        text: header with ``filename`` and ``caption``, also ``split`` and ``class``, in any order; other columns are
            left alone. Separated by commas, semicolons or tabs.
        name: file name for messages.

    Raises:
        DataError: a missing column (with the nearest name), a row of another length, an empty cell, or rows of one
            image that disagree; the message names the line.
    """
    images: dict[str, dict[str, Any]] = {}
    for line, row in _rows(text, name):
        empty = [column for column in NEEDED if not row[column].strip()]
        if empty:
            raise DataError(f"{name}: line {line} has an empty {empty[0]}")
        facts = {key: row[key].strip() or None for key in OPTIONAL if key in row}
        image = images.setdefault(row["filename"].strip(), {**facts, "captions": []})
        for key, value in facts.items():
            if image[key] != value:
                raise DataError(
                    f"{name}: line {line} gives '{row['filename']}' the {key} '{value}', an earlier line "
                    f"'{image[key]}'; an image has one"
                )
        image["captions"].append(row["caption"])
    return {"images": [{"filename": filename, **image} for filename, image in images.items()]}


def _rows(text: str, name: str) -> Iterator[tuple[int, _Row]]:
    """Line number and cells by column."""
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        _check_header(header, name)
        for cells in reader:
            if len(cells) not in (0, len(header)):
                raise DataError(
                    f"{name}: line {reader.line_num} has {len(cells)} columns, the header {len(header)}; "
                    "put texts with separators into double quotes"
                )
            if cells:
                yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{name}: line {reader.line_num} is no CSV ({error})") from error


def _check_header(header: list[str], name: str) -> None:
    for column in NEEDED:
        if column not in header:
            near = difflib.get_close_matches(column, header, n=1, cutoff=0.5)
            hint = f"rename '{near[0]}' to '{column}'" if near else f"the first line must name it: {','.join(NEEDED)}"
            raise DataError(f"{name}: has no column '{column}'; it has: {', '.join(header) or 'nothing'}; {hint}")
    double = next((c for c in (*NEEDED, *OPTIONAL) if header.count(c) > 1), None)
    if double:
        raise DataError(f"{name}: has the column '{double}' more than once; keep one")
