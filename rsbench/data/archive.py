"""Files of a folder, zip or tar by name, read in place; archives that try to reach outside are refused."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from rsbench.errors import ArchiveError, DataError

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, RuntimeError)
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_BUFFER = 1 << 20


@dataclass(frozen=True)
class Source:
    """Members of a folder or archive.

    Attributes:
        where: what to call it in messages.
        members: file name without folders -> full member paths.
        read: bytes of a full member path; may be called from several threads.
        open: a full member path as a stream, for members that are too large for memory.
    """

    where: str
    members: dict[str, list[str]]
    read: Callable[[str], bytes]
    open: Callable[[str], IO[bytes]]

    def find(self, filename: str) -> str | None:
        """The member path of a file name, searched in all folders; None where absent.

        Raises:
            DataError: several members fit.
        """
        fits = self.members.get(PurePosixPath(filename).name, [])
        if len(fits) > 1:
            whole = [m for m in fits if m == filename or m.endswith(f"/{filename}")] if "/" in filename else fits
            fits = [m for m in whole if m == filename and "/" in filename] or whole
        if len(fits) > 1:
            raise DataError(f"'{filename}' is in {self.where} more than once: {fits[0]} and {fits[1]}; keep one")
        return fits[0] if fits else None


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a folder, a zip, or a tar (plain or gzip); of a folder of archives the archives together.

    Raises:
        DataError: nothing there, or not one of these.
        ArchiveError: damaged, encrypted, or with members that are absolute, climb out, or are links.
    """
    if not path.exists():
        raise DataError(f"--source {path} does not exist; give a folder, a .zip, a .tar or a .tar.gz")
    with _opener(path)(path) as source:
        yield source


def _opener(path: Path) -> Callable[[Path], AbstractContextManager[Source]]:
    if path.is_dir():
        return _folder
    if zipfile.is_zipfile(path):
        return _zip
    with path.open("rb") as file:
        magic = file.read(2)
    if magic == b"\x1f\x8b":
        return _gzipped_tar
    if magic == b"PK":
        raise ArchiveError(f"{path.name} is a damaged or truncated zip; get it again")
    if tarfile.is_tarfile(path):
        return _tar
    raise DataError(f"--source {path.name} is neither a folder nor a zip, tar or tar.gz archive")


@contextmanager
def _folder(path: Path) -> Iterator[Source]:
    files = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    shown = [f for f in files if not f.startswith(".")]
    archives = [f for f in shown if f.lower().endswith(_ARCHIVES)]
    if archives and all(f in archives or f.lower().endswith((".json", ".part")) for f in shown):
        with ExitStack() as stack:
            yield _together(path, [(name, stack.enter_context(open_source(path / name))) for name in archives])
        return
    by_name = _by_name(files)
    yield Source(f"folder {path.name}", by_name, lambda m: (path / m).read_bytes(), lambda m: (path / m).open("rb"))


def _together(path: Path, sources: list[tuple[str, Source]]) -> Source:
    """Several archives as one; a member begins with the name of its archive, which keeps equal paths apart."""
    owners = {f"{name}/{m}": (source, m) for name, source in sources for of in source.members.values() for m in of}
    loose = {p.name: p for p in path.glob("*.json")}

    def read(member: str) -> bytes:
        return loose[member].read_bytes() if member in loose else owners[member][0].read(owners[member][1])

    def stream(member: str) -> IO[bytes]:
        return loose[member].open("rb") if member in loose else owners[member][0].open(owners[member][1])

    return Source(f"folder {path.name} of {len(sources)} archives", _by_name([*loose, *owners]), read, stream)


@contextmanager
def _zip(path: Path) -> Iterator[Source]:
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    with archive:
        for info in archive.infolist():
            check_member(path.name, info.filename, stat.S_ISLNK(info.external_attr >> 16))
        files = [i.filename for i in archive.infolist() if not i.is_dir()]
        yield Source(path.name, _by_name(files), lambda member: _zip_read(path, archive, member), archive.open)


def _zip_read(path: Path, archive: zipfile.ZipFile, member: str) -> bytes:
    try:
        return archive.read(member)
    except _DAMAGED as error:
        raise _damaged(path, error) from error


@contextmanager
def _tar(path: Path) -> Iterator[Source]:
    with path.open("rb") as file:
        yield _tar_members(path, file)


@contextmanager
def _gzipped_tar(path: Path) -> Iterator[Source]:
    """Gzip has no random access: the plain tar goes to an anonymous temporary file."""
    with tempfile.TemporaryFile() as plain:
        try:
            with gzip.open(path) as packed:
                shutil.copyfileobj(packed, plain, 1 << 20)
        except _DAMAGED as error:
            raise _damaged(path, error) from error
        plain.flush()
        plain.seek(0)
        yield _tar_members(path, plain)


def _tar_members(path: Path, file: IO[bytes]) -> Source:
    spans: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for info in archive:
                check_member(path.name, info.name, info.issym() or info.islnk())
                if not (info.isfile() or info.isdir()):
                    raise ArchiveError(f"{path.name} holds a device or pipe ('{info.name}'); refused")
                if info.isfile():
                    spans[info.name] = (info.offset_data, info.size)
            file.seek(archive.offset)  # tarfile takes a cut or spoiled header for the end
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end mark")
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    # pread has no shared file position, so decoder threads need no lock
    return Source(
        path.name,
        _by_name(list(spans)),
        lambda member: os.pread(file.fileno(), *reversed(spans[member])),
        lambda member: io.BufferedReader(_Span(file.fileno(), *spans[member]), _BUFFER),
    )


class _Span(io.RawIOBase):
    """A part of a file as a stream."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        self._fd, self._at, self._end = fd, start, start + size

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as the span goes."""
        count = os.preadv(self._fd, [memoryview(buffer)[: max(self._end - self._at, 0)]], self._at)
        self._at += count
        return count


def check_member(archive: str, member: str, link: bool) -> None:
    """Refuse a member that would reach outside the folder it is unpacked into.

    Args:
        archive: what to call it in messages.
        member: path inside it.
        link: whether the member is something else than a plain file or folder.

    Raises:
        ArchiveError: an absolute path, one that climbs out, or a link.
    """
    name = PurePosixPath(member.replace("\\", "/"))
    if name.is_absolute() or member[1:2] == ":":
        raise ArchiveError(f"{archive} holds an absolute path ('{member}'); refused")
    if ".." in name.parts:
        raise ArchiveError(f"{archive} holds a path that climbs out with '..' ('{member}'); refused")
    if link:
        raise ArchiveError(f"{archive} holds a link ('{member}'); refused, pack the files themselves")


def _by_name(members: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for member in members:
        found[PurePosixPath(member).name].append(member)
    return dict(found)


def _damaged(path: Path, error: BaseException) -> ArchiveError:
    return ArchiveError(f"{path.name} is damaged, truncated or encrypted ({error}); get it again")
