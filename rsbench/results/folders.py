"""Which folders below a results folder belong to a run, and which of them a user means. No torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from rsbench.errors import ResultError, UnknownNameError, UsageError

HASH = re.compile(r"[0-9a-f]{16}")
"""Name of a run's folder."""

_TRACES = {"spec.json", "result.json", "running.json", "checkpoint.safetensors"}
"""Any of these makes a folder that of a run."""

_SHOWN = 5


def run_folders(out: Path) -> Iterator[Path]:
    """Folders of runs below a results folder, in sorted order; hidden folders are not entered.

    Raises:
        ResultError: there is no such folder.
    """
    if not out.is_dir():
        raise ResultError(f"there is no folder '{out}'; name a folder of results, or make one with: rsbench run")
    for folder, below, files in os.walk(out):
        here = Path(folder)
        if _TRACES & set(files) or (HASH.fullmatch(here.name) and ".lock" in files):
            below[:] = []
            yield here
        else:
            below[:] = sorted(b for b in below if not b.startswith("."))


def find_run(name: str, out: Path) -> Path:
    """The run that is meant by a folder, or by the first digits of its hash.

    Args:
        name: path of a run's folder, or a prefix that only one run below ``out`` has.
        out: results folder.

    Raises:
        UsageError: several runs begin like this.
        UnknownNameError: none does; near ones are named.
        ResultError: there is no results folder.
    """
    given = Path(name)
    if any((given / trace).is_file() for trace in _TRACES):
        return given
    folders = {f.name: f for f in run_folders(out)}
    fits = sorted(n for n in folders if name and n.startswith(name))
    if len(fits) > 1:
        shown = ", ".join(fits[:_SHOWN]) + (", ..." if len(fits) > _SHOWN else "")
        raise UsageError(f"'{name}' is ambiguous: {len(fits)} runs in {out} begin like it ({shown}); give more digits")
    if not fits:
        raise UnknownNameError("run", name, folders, f"List the runs with: rsbench status {out} --json")
    return folders[fits[0]]
