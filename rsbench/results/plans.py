"""What a results folder is being filled with: plans, remembered so that a watcher knows what is still to come."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rsbench.files import write_atomic
from rsbench.results.heartbeat import process_lives

PLANS = ".plans"


@dataclass(frozen=True)
class Planned:
    """One run of a plan: its hash, what it is in a few words, and its estimated seconds where known."""

    hash: str
    label: str
    seconds: float | None = None


@dataclass(frozen=True)
class Plan:
    """A remembered plan.

    Attributes:
        file: where it is kept.
        runs: what it wants, finished runs included.
        made: time, in seconds of the driver's clock.
        host: machine of the driver.
        pid: its process; None where jobs live on without it (a queue).
    """

    file: Path
    runs: tuple[Planned, ...]
    made: float
    host: str
    pid: int | None

    @property
    def driven(self) -> bool | None:
        """Whether its driver lives; None where that cannot be told from here."""
        if self.pid is None or self.host != socket.gethostname():
            return None
        return process_lives(self.pid)


def remember_plan(out: Path, runs: Sequence[Planned], detached: bool = False) -> Path:
    """Note down what a driver works on, as ``.plans/<sha>.json``; the same runs again replace the note.

    Args:
        out: results folder; made if absent.
        runs: all runs of the plan.
        detached: jobs go on when this process ends.

    Raises:
        OSError: the folder cannot be written.
    """
    name = hashlib.sha256("\n".join(sorted(r.hash for r in runs)).encode()).hexdigest()[:16]
    file = out / PLANS / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    driver = {"host": socket.gethostname(), "pid": None if detached else os.getpid()}
    data = {"made": time.time(), **driver, "runs": [asdict(r) for r in runs]}
    write_atomic(file, json.dumps(data).encode())
    return file


def remembered(out: Path) -> list[Plan]:
    """The plans of a results folder, oldest first; a damaged note is left out, since it only says what is to come."""
    plans = [_read(file) for file in sorted((out / PLANS).glob("*.json"))]
    return sorted((p for p in plans if p is not None), key=lambda p: p.made)


def _read(file: Path) -> Plan | None:
    try:
        data = json.loads(file.read_bytes())
        runs = tuple(Planned(str(r["hash"]), str(r["label"]), _seconds(r["seconds"])) for r in data["runs"])
        pid = None if data["pid"] is None else int(data["pid"])
        return Plan(file, runs, float(data["made"]), str(data["host"]), pid)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value >= 0 else None
