"""Archives of ``ship.export`` taken into a results folder: checked first, merged without clashes. No torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsbench.data.archive import Source, open_source
from rsbench.errors import ArchiveError, BusyError, DataError, ResultError
from rsbench.experiment.ship import ALWAYS, FORMAT, FORMAT_VERSION, MANIFEST, WEIGHTS, checked
from rsbench.files import temporary
from rsbench.progress import Progress, silent
from rsbench.results.folders import HASH, run_folders
from rsbench.results.frame import figures, read_result
from rsbench.results.heartbeat import disk_clock, is_alive, read_beat
from rsbench.results.store import RunFolder, read_json

_PAIRS = re.compile(r"pairs/epoch-\d{3,}\.safetensors")
_GZIP, _USTAR = b"\x1f\x8b", b"ustar"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass
class Merged:
    """What an import did, by hash.

    Attributes:
        taken: runs that are here now.
        same: finished here already, with equal numbers.
        kept: what came was not finished, and something is here already.
        clashes: finished on both sides with other numbers: what is here, and the archive.
        busy: being worked on here, with the reason; nothing was taken.
    """

    taken: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    clashes: list[tuple[Path, str]] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)


def import_runs(archives: Sequence[Path], out: Path, progress: Progress = silent) -> Merged:
    """Merge archives into a results folder. All are read and checked before the first run is put in its place.

    A run that is finished here is never written over; a finished one takes the place of a failed or killed one.

    Args:
        archives: of ``export``.
        out: results folder; made if absent. A run that is in a folder below it stays there.
        progress: called per run.

    Raises:
        ArchiveError: an archive that is damaged, cut off, foreign, unsafe or of a newer version; nothing is changed.
        ResultError: a run in it that does not fit its hash, or of a newer schema; nothing is changed.
        OSError: the folder cannot be written.
    """
    fresh = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    staging = temporary(out / "import")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        come: list[tuple[str, Path]] = []
        for at, archive in enumerate(archives):
            come += [(archive.name, folder) for folder in _unpack(archive, staging / str(at), progress)]
        places = {folder.name: folder for folder in run_folders(out)}
        merged = Merged()
        for at, (archive_name, folder) in enumerate(come, 1):
            place = places.setdefault(folder.name, out / folder.name)
            _merge(folder, RunFolder(place.parent, place.name), archive_name, merged)
            progress("import", at, len(come))
        return merged
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if fresh:
            with contextlib.suppress(OSError):
                out.rmdir()  # only if nothing came


def _unpack(archive: Path, staging: Path, progress: Progress) -> list[Path]:
    """Write the checked runs of an archive below a folder; the run folders."""
    with _opened(archive) as source:
        runs = _manifest(archive.name, source)
        folders = []
        for at, (name, sums) in enumerate(runs.items(), 1):
            for member, wanted in sums.items():
                content = source.read(f"runs/{name}/{member}")
                if hashlib.sha256(content).hexdigest() != wanted:
                    raise ArchiveError(f"{archive.name}: runs/{name}/{member} differs from its checksum; get it again")
                path = staging / name / member
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            folders.append(staging / name)
            with _named(archive.name):
                checked(folders[-1])
            progress(f"check {archive.name}", at, len(runs))
    return folders


@contextlib.contextmanager
def _named(archive: str) -> Iterator[None]:
    """Say which archive a run that cannot be taken is from."""
    try:
        yield
    except ResultError as error:
        raise ResultError(f"{archive}: {error}; nothing was imported") from None


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[Source]:
    if not archive.is_file():
        raise ArchiveError(f"there is no file '{archive}'; make one with: rsbench export RESULTS -o {archive.name}")
    with archive.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    if head[:2] != _GZIP and head[257:262] != _USTAR:
        raise ArchiveError(f"{archive.name} is no tar, or its beginning is damaged; make one with: rsbench export")
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(open_source(archive))
        except ArchiveError:
            raise
        except DataError:
            raise ArchiveError(f"{archive.name} is damaged or cut off at its beginning; get it again") from None
        yield source


def _manifest(archive: str, source: Source) -> dict[str, dict[str, str]]:
    """Runs of an archive: hash -> member -> sha256; members and manifest are the same set.

    Raises:
        ArchiveError: they are not, or the manifest is not one that this version reads.
    """
    members = {m for same in source.members.values() for m in same}
    if MANIFEST not in members:
        raise ArchiveError(f"{archive} has no {MANIFEST}: it was not made by rsbench export")
    try:
        manifest = json.loads(source.read(MANIFEST))
        version, runs = manifest["version"], manifest["runs"]
        foreign = manifest["format"] != FORMAT or type(version) is not int
    except (ValueError, KeyError, TypeError):
        foreign = True
    if foreign or not _well_formed(runs):
        raise ArchiveError(f"{archive} has a {MANIFEST} that rsbench export did not write")
    if version > FORMAT_VERSION:
        raise ArchiveError(
            f"{archive} has format {version}, this version reads up to {FORMAT_VERSION}; "
            "upgrade with: pip install -U rsbench"
        )
    listed = {f"runs/{name}/{member}" for name, sums in runs.items() for member in sums}
    if odd := sorted(listed ^ (members - {MANIFEST})):
        raise ArchiveError(f"{archive}: '{odd[0]}' is not both in its {MANIFEST} and in the archive; get it again")
    return dict(runs)


def _well_formed(runs: Any) -> bool:
    if not isinstance(runs, dict) or not all(HASH.fullmatch(name) and isinstance(s, dict) for name, s in runs.items()):
        return False
    files = [(member, digest) for sums in runs.values() for member, digest in sums.items()]
    known = all(member in (*ALWAYS, WEIGHTS) or _PAIRS.fullmatch(member) for member, _ in files)
    whole = all({"spec.json", "result.json"} <= set(sums) for sums in runs.values())
    return known and whole and all(isinstance(d, str) and _SHA256.fullmatch(d) for _, d in files)


def _merge(come: Path, run: RunFolder, archive: str, merged: Merged) -> None:
    """Put one checked run in its place, or say why not."""
    name, done = run.path.name, read_result(come / "result.json")["status"] == "done"
    if _same(come, run, archive, merged):
        return
    try:
        _refuse_alive(run)
        with run.claimed():
            state = _state(run)
            if state == "new" or (done and state in ("failed", "partial", "damaged")):
                run.take_in(come)
                merged.taken.append(name)
            elif state != "done" or not _same(come, run, archive, merged):  # done: finished since we looked
                merged.kept.append(name)
    except BusyError as error:
        merged.busy.append(str(error))


def _same(come: Path, run: RunFolder, archive: str, merged: Merged) -> bool:
    """Whether the run is finished here; what came is compared with it and left."""
    if _state(run) != "done":
        return False
    incoming, name = read_result(come / "result.json"), run.path.name
    if incoming["status"] != "done":
        merged.kept.append(name)
    elif figures(incoming) == figures(run.read_result()):
        merged.same.append(name)
    else:
        merged.clashes.append((run.path, archive))
    return True


def _state(run: RunFolder) -> str:
    """As ``RunFolder.state``; ``damaged`` where the result is not readable, ``newer`` where it is not ours to judge."""
    try:
        return run.state()
    except ResultError:
        try:
            read_json(run.result)
        except ResultError:
            return "damaged"
        return "newer"


def _refuse_alive(run: RunFolder) -> None:
    """A run on a machine whose locks are not seen here shows by its sign of life alone."""
    read = read_beat(run.path)
    if read and is_alive(read[0], disk_clock(run.path) - read[1], run.held()):
        raise BusyError(f"run {run.path.name} is being worked on by {read[0].host}; import again when it has ended")
