"""Data to a machine that does not share the disk, and finished runs back: plain tar, checked member by member."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rsbench.backbones.cache import texts_hash
from rsbench.data.archive import check_member
from rsbench.data.card import DatasetCard
from rsbench.data.dataset import Dataset
from rsbench.data.lifecycle import open_dataset
from rsbench.errors import ArchiveError, ResultError
from rsbench.experiment.spec import RunSpec
from rsbench.files import temporary
from rsbench.noise.imported import FILE
from rsbench.noise.pseudo_match_store import is_drawn, manifest_path
from rsbench.registry import DATASETS
from rsbench.results.store import RunFolder, read_json

CHUNK = 1 << 26
"""Bytes that travel as one object."""

END = ".end"
"""Empty last member: a tar that was cut between two members would pass for a whole one."""

STAYS = (".lock", "running.json", "checkpoint.safetensors")
"""Files of a run folder that mean nothing elsewhere."""


@dataclass(frozen=True)
class Cargo:
    """Files of a data folder that some runs need.

    Attributes:
        root: the data folder.
        files: paths below it, sorted, with forward slashes.
    """

    root: Path
    files: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Names the content by path, size and time of change of every file, in 16 hex digits."""
        facts = [(name, (stat := (self.root / name).stat()).st_size, stat.st_mtime_ns) for name in self.files]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def cargo_of(specs: Iterable[RunSpec], root: Path) -> Cargo:
    """Packed datasets, feature caches and noise lists that runs read.

    Raises:
        DataError: a dataset is not in the data folder.
    """
    found: set[Path] = set()
    datasets: dict[str, Dataset] = {}
    for spec in specs:
        if spec.dataset not in datasets:
            datasets[spec.dataset] = open_dataset(spec.dataset, root)
            card: DatasetCard = DATASETS.load(spec.dataset)
            found.update(_below(root / "datasets" / (card.base or card.name)))
        found.update(_noise(spec, datasets[spec.dataset], root))
    backbones = {spec.backbone for spec in specs}
    contents = {h for d in datasets.values() for h in (d.images_hash, texts_hash(d.texts))}
    found.update(_features(root / "features", backbones, contents))
    return Cargo(root, tuple(sorted(p.relative_to(root).as_posix() for p in found)))


def _below(folder: Path) -> Iterator[Path]:
    return (p for p in folder.rglob("*") if p.is_file())


def _features(folder: Path, backbones: set[str], contents: set[str]) -> Iterator[Path]:
    for entry in folder.glob("*/entry.json"):
        key = json.loads(entry.read_bytes())["key"]
        if key.get("backbone") in backbones and key.get("content") in contents:
            yield from _below(entry.parent)


def _noise(spec: RunSpec, dataset: Dataset, root: Path) -> Iterator[Path]:
    if spec.noise.source.startswith(FILE):
        yield root / "noise" / f"{spec.noise.source.removeprefix(FILE)}.safetensors"
    elif is_drawn(spec.noise):
        manifest = manifest_path(dataset, spec.split, spec.noise, root)
        yield from (manifest, manifest.with_suffix(".safetensors"))


class _Cutter(io.RawIOBase):
    """A file whose content is handed on in chunks."""

    def __init__(self, put: Callable[[bytes], None], size: int) -> None:
        self.put, self.size, self.held = put, size, bytearray()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Take bytes, and hand on every chunk that is full."""
        self.held += data
        while len(self.held) >= self.size:
            self.put(bytes(self.held[: self.size]))
            del self.held[: self.size]
        return len(data)

    def finish(self) -> None:
        """Hand on what is left."""
        if self.held:
            self.put(bytes(self.held))


class _Joiner(io.RawIOBase):
    """A file that reads chunks one after another."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks, self.held = iter(chunks), memoryview(b"")  # a view: cutting it copies nothing

    def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes, fewer at the end; all that is left where ``size`` is negative."""
        parts: list[memoryview] = []
        while size:
            self.held = self.held or memoryview(next(self.chunks, b""))
            if not self.held:
                break
            end = len(self.held) if size < 0 else size
            parts.append(self.held[:end])
            self.held = self.held[end:]
            size -= len(parts[-1]) if size > 0 else 0
        return b"".join(parts)


def pack(root: Path, files: Iterable[str], put: Callable[[bytes], None], chunk: int = CHUNK) -> None:
    """Write files below a folder as a tar, in chunks.

    Args:
        root: the folder.
        files: paths below it.
        put: called with each chunk in turn.
        chunk: bytes of every chunk but the last.
    """
    cutter = _Cutter(put, chunk)
    with tarfile.open(fileobj=cutter, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name in files:
            archive.add(root / name, name, recursive=False)
        archive.addfile(tarfile.TarInfo(END))
    cutter.finish()


def unpack(chunks: Iterable[bytes], folder: Path, where: str) -> None:
    """Write the files of a tar into an existing folder.

    Args:
        chunks: of ``pack``.
        folder: where to write.
        where: what to call the archive in messages.

    Raises:
        ArchiveError: damaged, cut off, or with members that are no plain files or reach outside.
    """
    whole = False
    try:
        with tarfile.open(fileobj=_Joiner(chunks), mode="r|") as archive:
            for member in archive:
                check_member(where, member.name, not member.isfile())
                whole = member.name == END
                if not whole:
                    _write(archive, member, folder / member.name)
        if not whole:
            raise tarfile.ReadError("no end mark")
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveError(f"{where} is damaged or cut off ({error}); run the same command again") from error


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = archive.extractfile(member)
    assert content is not None, "a plain file"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    if path.stat().st_size != member.size:
        raise tarfile.ReadError("cut off")


def stow(chunks: Iterable[bytes], place: Path) -> Path:
    """Unpack a cargo into ``place`` once, whoever else on this machine wants it too.

    Raises:
        ArchiveError: the cargo is damaged.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if not place.exists():
            tmp = temporary(place)
            shutil.rmtree(tmp, ignore_errors=True)
            tmp.mkdir()
            try:
                unpack(chunks, tmp, "the data sent here")
                os.replace(tmp, place)
            finally:
                shutil.rmtree(tmp, ignore_errors=True)
    return place


def pack_run(folder: RunFolder) -> list[bytes]:
    """The files of an ended run in chunks; lock, checkpoint and leftovers stay."""
    names = sorted(p.relative_to(folder.path) for p in _below(folder.path))
    left = [n.as_posix() for n in names if not any(part.endswith(".tmp") for part in n.parts)]
    chunks: list[bytes] = []
    pack(folder.path, [n for n in left if n not in STAYS], chunks.append)
    return chunks


def take_in(chunks: Iterable[bytes], folder: RunFolder) -> bool:
    """Put an ended run into a results folder, its ``result.json`` last; a finished run is never written over.

    Returns:
        Whether it was taken.

    Raises:
        BusyError: another process works on the run.
        ArchiveError: the archive is damaged.
        ResultError: it holds no result of this run.
    """
    with folder.claimed():
        if folder.state() == "done":
            return False
        tmp = temporary(folder.path / "incoming")
        tmp.mkdir()
        try:
            unpack(chunks, tmp, f"the result of run {folder.path.name}")
            _move_in(RunFolder(tmp.parent, tmp.name), folder)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
        return True


def _move_in(come: RunFolder, folder: RunFolder) -> None:
    result = read_json(come.result)
    if result.get("hash") != folder.path.name:
        raise ResultError(f"a worker sent the result of run {result.get('hash')} for run {folder.path.name}")
    folder.take_in(come.path)
