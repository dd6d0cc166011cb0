"""Ranks per test query, kept beside a run so that methods can be compared query by query. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rsbench.errors import ResultError
from rsbench.results.frame import read_result, result_files

RANKS = "ranks.safetensors"
"""Name of the file in the run folder; runs of before it was kept, and copies without it, have none."""

Counts = npt.NDArray[np.int32]


class QueryRanks(NamedTuple):
    """Ranks from 0 of the best epoch on the test part, in the order of the part.

    Attributes:
        i2t: int32 ``[N]``, rank of the best of each image's own captions.
        t2i: int32 ``[M]``, rank of each caption's own image.
    """

    i2t: Counts
    t2i: Counts

    @property
    def mr(self) -> float:
        """Mean of the six recalls in percent."""
        return 100 * sum(float((r < k).mean()) for r in self for k in (1, 5, 10)) / 6


def ranks_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Hash of each run below the paths that keeps its ranks -> the file.

    Raises:
        ResultError: a path that does not exist, or a damaged result.
    """
    found: dict[str, Path] = {}
    for file in (f for path in paths for f in result_files(path)):
        kept = file.with_name(RANKS)
        if kept.is_file():
            found.setdefault(str(read_result(file).get("hash") or file.parent.name), kept)
    return found


def read_ranks(path: Path) -> QueryRanks:
    """The ranks of one run.

    Raises:
        ResultError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
        return QueryRanks(tensors["i2t"], tensors["t2i"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ResultError(f"{path} is damaged ({error}); delete it: the run is then compared by seed alone") from None
