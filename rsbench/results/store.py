"""One folder per run: written so that a kill at any moment leaves it whole. No torch."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rsbench.errors import BusyError, ResultError
from rsbench.files import sweep, write_atomic
from rsbench.results.schema import SCHEMA_VERSION, Result


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write indented JSON atomically. NaN is refused: it is not JSON and never a result."""
    write_atomic(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ResultError: not readable as a JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(
            f"{path} cannot be read ({error}); delete the folder {path.parent.name} and run again"
        ) from None
    if not isinstance(data, dict):
        raise ResultError(f"{path} holds no JSON object; delete the folder {path.parent.name} and run again")
    return data


class RunFolder:
    """The folder of one run, named by its hash.

    Args:
        out: results folder.
        name: hash of the spec.
    """

    def __init__(self, out: Path, name: str) -> None:
        self.path = out / name
        self.spec = self.path / "spec.json"
        self.result = self.path / "result.json"
        self.history = self.path / "history.jsonl"
        self.log_file = self.path / "log.txt"
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.weights = self.path / "weights.safetensors"
        self.pairs = self.path / "pairs"
        self.lock = self.path / ".lock"

    def state(self) -> str:
        """``done``, ``failed``, ``partial`` (a checkpoint to resume from) or ``new``.

        Raises:
            ResultError: the result is damaged or of a newer version.
        """
        if self.result.exists():
            return str(self.read_result().get("status", "failed"))
        return "partial" if self.checkpoint.exists() else "new"

    def read_result(self) -> Result:
        """The stored result.

        Raises:
            ResultError: damaged, or written by a newer version.
        """
        data = read_json(self.result)
        if data.get("schema", 0) > SCHEMA_VERSION:
            raise ResultError(
                f"{self.result} has schema {data['schema']}, this version reads up to {SCHEMA_VERSION}; "
                "upgrade with: pip install -U rsbench"
            )
        return data  # type: ignore[return-value]

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the run for this process; the lock dies with the process.

        Raises:
            BusyError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.lock)
        try:
            lock.acquire(timeout=0.2, poll_interval=0.02)  # a watcher holds it for an instant, see ``held``
        except Timeout:
            raise BusyError(
                f"run {self.path.name} is being worked on by another process; wait for it, or use another --out"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def held(self) -> bool | None:
        """Whether a process holds the run; None where the lock cannot be tried (a read-only folder)."""
        if not self.lock.exists():
            return False
        try:
            with FileLock(self.lock, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return None

    def open(self, spec: Mapping[str, Any]) -> None:
        """Write the spec, or check that the one there is the same; remove what a killed writer left.

        Raises:
            ResultError: the folder belongs to another spec.
        """
        for folder in (self.path, self.pairs):
            sweep(folder)
        plain = json.loads(json.dumps(spec))
        if self.spec.exists() and read_json(self.spec) != plain:
            raise ResultError(
                f"{self.spec} was changed or written by another version; move the folder away, "
                "or run with --overwrite always"
            )
        write_json(self.spec, plain)

    def take_in(self, come: Path) -> None:
        """Move the files of a finished run here, ``result.json`` last: a run counts only once that is there.

        Args:
            come: folder on the same file system; emptied. This run must be held.
        """
        files = sorted(p for p in come.rglob("*") if p.is_file())
        for path in sorted(files, key=lambda p: p == come / self.result.name):
            target = self.path / path.relative_to(come)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
        self.checkpoint.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget everything but the lock."""
        for item in self.path.glob("*"):
            if item.name != ".lock":
                shutil.rmtree(item) if item.is_dir() else item.unlink()

    def log(self, line: str) -> None:
        """Append a line to ``log.txt``."""
        with open(self.log_file, "a", encoding="utf-8") as handle:
            handle.write(line + "\n")

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Write ``history.jsonl``, one epoch a line."""
        write_atomic(self.history, "".join(json.dumps(line) + "\n" for line in history).encode())
