"""The user's own pairs: pictures and a caption file, with the file's split or a seeded one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsbench.data.captions import Record
from rsbench.data.local import SPLIT
from rsbench.data.read import captioned
from rsbench.data.splits import SEEDED, Split, official_split, seeded_split


def _splits(records: Sequence[Record]) -> tuple[dict[str, Split], dict[str, Any]]:
    if any(r.split for r in records):
        return {SPLIT: official_split(records)}, {"notes": ["split own: as the caption file says"]}
    return {SPLIT: seeded_split(len(records))}, {"notes": [f"split own: {SEEDED}"]}


read = captioned(_splits)
