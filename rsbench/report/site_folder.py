"""A folder of pages that appears whole or not at all, and takes the place of nothing but an older one of ours."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsbench.errors import UsageError
from rsbench.files import temporary

MARKER = ".rsbench-report"
"""Lists the files of a report, one a line, so that a later one may replace it."""


def check_folder(out: Path) -> None:
    """Refuse a folder that a report must not take, before any work.

    Raises:
        UsageError: it holds something else, is a file, or stands in no folder.
    """
    hint = "give a new folder, for example -o report"
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder '{out.parent}' for '{out}'; make it first: mkdir -p {out.parent}")
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise UsageError(f"'{out}' is no folder; {hint}")
    own = _own(out)
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if own is None or (name not in own and (path.is_symlink() or not path.is_dir())):
            what = "is no report" if own is None else "is a report that holds other files too"
            raise UsageError(f"'{out}' {what} ({name} is not ours) and will not be replaced; {hint}")


def _own(out: Path) -> set[str] | None:
    """Names of the files of a report; None for a folder that is none."""
    try:
        return {MARKER, *(out / MARKER).read_text(encoding="utf-8").splitlines()}
    except (OSError, ValueError):
        return None


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``out`` when the block ends without an error.

    Raises:
        UsageError: ``out`` holds something else.
        OSError: the disk is full, or the folder cannot be written; ``out`` is then as before.
    """
    out = Path(os.path.abspath(out))
    check_folder(out)
    work, old = temporary(out), temporary(out).with_suffix(".old")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
        names = sorted(p.relative_to(work).as_posix() for p in work.rglob("*") if p.is_file())
        (work / MARKER).write_text("".join(f"{n}\n" for n in names), encoding="utf-8")
        check_folder(out)
        if out.exists():
            os.replace(out, old)
        os.replace(work, out)
    finally:
        if old.exists() and not out.exists():
            os.replace(old, out)
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
