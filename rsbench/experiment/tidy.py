"""What a results folder and a data root can do without. No torch at import."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rsbench.errors import BusyError, ResultError
from rsbench.results.folders import run_folders
from rsbench.results.heartbeat import RUNNING, disk_clock, is_alive, read_beat
from rsbench.results.plans import remembered
from rsbench.results.store import RunFolder

FEATURES = "features"
"""Folder of feature caches below a data root."""

LONG_SILENT = 3600.0
"""Seconds: how long a run on another machine must be silent before its sign of life is taken away."""


@dataclass(frozen=True)
class Leftover:
    """Something to delete.

    Attributes:
        path: file or folder.
        bytes: its size.
        why: what it is.
        owner: run folder (or feature cache entry) that must be idle while it is deleted; None for a plan.
    """

    path: Path
    bytes: int
    why: str
    owner: Path | None


def leftovers(out: Path, weights: bool = False) -> list[Leftover]:
    """What the runs of a results folder left behind; runs that are being worked on are passed over.

    Args:
        out: results folder.
        weights: the best weights of finished runs, too (``rsbench eval`` needs them).

    Raises:
        ResultError: there is no such folder.
    """
    found: list[Leftover] = []
    clock = disk_clock(out) if out.is_dir() else 0.0
    finished: set[str] = set()
    places = {out}
    for folder in run_folders(out):
        places.add(folder.parent)
        run = RunFolder(folder.parent, folder.name)
        done = _is_done(run)
        finished |= {folder.name} if done else set()
        if not _worked_on(run, clock):
            found += _of_run(run, done, weights)
    found += [_item(p, "left by a killed import", None) for p in out.glob(".*.tmp") if _old(p, clock)]
    ended = [
        p
        for place in sorted(places)
        for p in remembered(place)
        if p.driven is not True and {r.hash for r in p.runs} <= finished
    ]
    return [*found, *(_item(plan.file, "plan whose runs are all done", None) for plan in ended)]


def _worked_on(run: RunFolder, clock: float) -> bool:
    held, read = run.held(), read_beat(run.path)
    if held is not False:  # a lock that cannot be tried may be held
        return True
    if read is None:
        return False
    age = clock - read[1]
    return is_alive(read[0], age, held) or (age < LONG_SILENT and is_alive(read[0], 0.0, held))


def _old(path: Path, clock: float) -> bool:
    with contextlib.suppress(OSError):
        return clock - path.stat().st_mtime > LONG_SILENT
    return False


def _is_done(run: RunFolder) -> bool:
    try:
        return run.state() == "done"
    except ResultError:  # damaged: its files may be all that is left of it
        return False


def _of_run(run: RunFolder, done: bool, weights: bool) -> Iterator[Leftover]:
    owner = run.path
    for file in sorted([*run.path.glob(".*.tmp"), *run.pairs.glob(".*.tmp")]):
        yield _item(file, "left by a killed writer", owner)
    if (run.path / RUNNING).exists():
        yield _item(run.path / RUNNING, "sign of life of a killed run", owner)
    if done and run.checkpoint.exists():
        yield _item(run.checkpoint, "checkpoint of a finished run", owner)
    if done and weights and run.weights.exists():
        yield _item(run.weights, "weights of a finished run", owner)
    abandoned = not any(p.name != run.lock.name for p in run.path.iterdir())
    if abandoned:
        yield _item(run.path, "folder of a run that never began", owner)
    elif done and run.lock.exists():
        yield _item(run.lock, "lock of a finished run", owner)


def feature_leftovers(root: Path) -> list[Leftover]:
    """Feature caches that no run on the prepared datasets can use, and those that a killed process left unfinished.

    A cache is of use while a dataset of the data root has its images or captions and the backbone its revision;
    caches of backbones that are not registered here are left alone.

    Raises:
        DataError: a prepared dataset cannot be read, so that its caches cannot be told.
    """
    folder = root / FEATURES
    if not folder.is_dir():
        return []
    contents, found = _contents(root), []
    for entry in sorted(p for p in folder.iterdir() if p.is_dir()):
        if _busy(_cache_lock(entry)):
            continue
        why = "features half computed" if entry.suffix == ".part" else _useless(entry, contents)
        if why:
            found.append(_item(entry, why, entry))
    return found


def _contents(root: Path) -> set[str]:
    """Hashes of the images and captions of every prepared dataset and of the subsets of them."""
    from rsbench.backbones.cache import texts_hash
    from rsbench.data.lifecycle import is_packed, open_dataset
    from rsbench.registry import DATASETS

    found: set[str] = set()
    for name in DATASETS.names():
        if is_packed(root, DATASETS.load(name).base or name):
            dataset = open_dataset(name, root)
            found |= {dataset.images_hash, texts_hash(dataset.texts)}
    return found


def _useless(entry: Path, contents: set[str]) -> str:
    """Why no run can use a cache entry, or ""."""
    from rsbench.registry import BACKBONES

    try:
        key = json.loads((entry / "entry.json").read_bytes())["key"]
        content, name, revision = key["content"], key["backbone"], key["revision"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # not of this cache's making
    if content not in contents:
        return f"{key.get('what', 'features')} of a dataset that is not prepared here"
    if name in BACKBONES.names() and not BACKBONES.entry(name).missing and BACKBONES.load(name).revision != revision:
        return f"{key.get('what', 'features')} of an older revision of {name}"
    return ""


def _cache_lock(entry: Path) -> Path:
    """Lock of a cache entry, finished or not (``backbones.cache``)."""
    return entry.with_name(entry.name.removesuffix(".part") + ".lock")


def _busy(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def remove(items: Sequence[Leftover]) -> tuple[list[Leftover], list[str]]:
    """Delete, each while its run is held and only if it is still a leftover then.

    Returns:
        What was deleted, and a line for each run or cache that was left alone.
    """
    gone: list[Leftover] = []
    kept: list[str] = []
    for owner in dict.fromkeys(i.owner for i in items):
        mine = [i for i in items if i.owner == owner]
        try:
            with _idle(owner) as still:
                for item in mine:
                    if still is None or item.path in still:
                        _delete(item.path)
                        gone.append(item)
        except BusyError as error:
            kept.append(str(error))
        except OSError as error:
            kept.append(f"{mine[0].path} cannot be deleted ({error.strerror})")
    return gone, kept


@contextlib.contextmanager
def _idle(owner: Path | None) -> Iterator[set[Path] | None]:
    """Hold what is tidied; yields what may still be deleted, None for all of it.

    Raises:
        BusyError: someone works on it.
    """
    if owner is None:
        yield None
    elif owner.parent.name == FEATURES:
        lock = _cache_lock(owner)
        try:
            with FileLock(lock, timeout=0):
                yield None
        except Timeout:
            raise BusyError(f"{owner} is being computed") from None
        lock.unlink(missing_ok=True)
    else:
        run = RunFolder(owner.parent, owner.name)
        with run.claimed():
            yield {i.path for i in _of_run(run, _is_done(run), weights=True)}


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _item(path: Path, why: str, owner: Path | None) -> Leftover:
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    size = 0
    for file in files:
        with contextlib.suppress(OSError):
            size += file.stat().st_size
    return Leftover(path, size, why, owner)
