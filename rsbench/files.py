"""Files that are whole or absent, whatever kills the writer."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path


def temporary(path: Path) -> Path:
    """A name beside ``path`` that no other process or thread uses."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    tmp = temporary(path)
    try:
        with tmp.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder that this process alone works on."""
    for leftover in folder.glob(".*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
