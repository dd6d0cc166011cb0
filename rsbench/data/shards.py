"""Webdataset shards: plain tar files, local or remote, read as streams; nothing is unpacked to disk or unpickled."""

from __future__ import annotations

import http.client
import io
import itertools
import os
import re
import tarfile
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rsbench.errors import DataError, DownloadError

IMAGE = ("img_content", "jpg", "jpeg", "png", "webp", "tif", "tiff")
TEXT = ("caption", "txt")
_LARGEST = 1 << 27  # bytes of one member; a longer one is no picture
_TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class Shard:
    """A tar file at a path or an http(s) address."""

    where: str

    @property
    def name(self) -> str:
        """File name without ending."""
        return self.where.rsplit("/", 1)[-1].removesuffix(".tar")

    @property
    def remote(self) -> bool:
        """Whether it is read over the network."""
        return "://" in self.where


@dataclass(frozen=True)
class Sample:
    """One image-text pair of a shard, or why it is broken.

    Attributes:
        key: member name up to the first dot.
        image: encoded picture.
        caption: stripped text.
        fault: why it cannot be used; empty where it can.
    """

    key: str
    image: bytes = b""
    caption: str = ""
    fault: str = ""


def local_shards(path: Path) -> list[Shard]:
    """The shards of a folder (with sub-folders), or the one file, by name.

    Raises:
        DataError: there is none.
    """
    files = [path] if path.is_file() else path.rglob("*.tar")
    found = sorted((Shard(str(file)) for file in files), key=lambda s: (s.name, s.where))
    if not found:
        raise DataError(f"--source {path} holds no shards; give a folder of .tar files, one .tar, or an address")
    return _distinct(found)


def addressed_shards(address: str) -> list[Shard]:
    """The shards of an address in brace notation, such as ``https://host/rs3-train-{0000..0031}.tar``.

    Raises:
        DataError: no http(s) address of tar files.
    """
    found = [Shard(url) for url in _expand(address)]
    if not all(re.fullmatch(r"https?://.+/[^/]+\.tar", s.where) for s in found):
        raise DataError(
            f"--source {address}: give http(s) addresses of .tar shards, for example https://host/part-{{000..031}}.tar"
        )
    return _distinct(sorted(found, key=lambda s: s.name))


def hub_shards(repository: str, folder: str) -> list[Shard]:
    """The shards below a folder of a dataset repository on the Hugging Face hub (``HF_ENDPOINT`` names a mirror).

    Raises:
        DownloadError: the hub does not answer, or has no shards there.
    """
    from huggingface_hub import HfApi, hf_hub_url

    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        files = HfApi(endpoint=endpoint).list_repo_files(repository, repo_type="dataset")
    except Exception as error:  # the client raises errors of whichever HTTP library it uses
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise DownloadError(f"the shards of {repository} cannot be listed ({why})") from error
    names = [f for f in files if f.startswith(folder) and f.endswith(".tar")]
    if not names:
        raise DownloadError(f"{repository} on the hub has no .tar files in {folder}")
    urls = [hf_hub_url(repository, name, repo_type="dataset", endpoint=endpoint) for name in names]
    return _distinct(sorted((Shard(url) for url in urls), key=lambda s: s.name))


def read_samples(shard: Shard) -> Generator[Sample, None, None]:
    """Samples of a shard in order; neighbouring members with one key belong together.

    Raises:
        DataError: no tar file.
        DownloadError: a remote shard that cannot be read to its end.
    """
    with _stream(shard) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                yield from _samples(shard, archive)
        except (tarfile.TarError, EOFError) as error:
            raise DataError(f"shard {shard.where} is no tar file ({error}); get it again") from error


def _samples(shard: Shard, archive: tarfile.TarFile) -> Iterator[Sample]:
    seen: set[str] = set()
    members = (m for m in _members(archive))
    try:
        for key, group in itertools.groupby(members, key=lambda m: _split(m.name)[0]):
            fields = {_split(m.name)[1]: _content(archive, m) for m in group}
            yield Sample(key, fault="key occurs twice") if key in seen else _sample(key, fields)
            seen.add(key)
    except (tarfile.TarError, EOFError) as error:
        if not seen:
            raise
        yield Sample(f"{shard.name} after {len(seen)} samples", fault=f"the shard is truncated ({error})")


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        archive.members = []  # type: ignore[attr-defined, unused-ignore]  # a stream of millions is not kept
        if member.isfile():
            yield member


def _split(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    key, _, field = base.partition(".")
    return (f"{folder}/{key}" if folder else key), field.lower()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    field = _split(member.name)[1]
    file = archive.extractfile(member) if field in (*IMAGE, *TEXT) and member.size <= _LARGEST else None
    return file.read() if file else b""


def _sample(key: str, fields: dict[str, bytes]) -> Sample:
    image = next((fields[f] for f in IMAGE if f in fields), None)
    text = next((fields[f] for f in TEXT if f in fields), None)
    if image is None or text is None:
        return Sample(key, fault="has no caption" if text is None else "has no picture")
    try:
        caption = " ".join(text.decode("utf-8").split())
    except UnicodeDecodeError:
        return Sample(key, fault="its caption is not UTF-8")
    return Sample(key, image, caption, "" if caption else "its caption is empty")


@contextmanager
def _stream(shard: Shard) -> Iterator[IO[bytes]]:
    if not shard.remote:
        with Path(shard.where).open("rb") as file:
            yield file
        return
    request = urllib.request.Request(shard.where, headers={"User-Agent": "rsbench"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            yield io.BufferedReader(_Whole(answer), 1 << 20)
    except urllib.error.HTTPError as error:
        raise DownloadError(f"{shard.where}: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{shard.where}: cannot be read ({getattr(error, 'reason', None) or error})") from error


class _Whole(io.RawIOBase):
    """A body whose early end is an error; ``http.client`` takes it for the end of the file."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self._answer, self._left = answer, int(answer.headers.get("Content-Length") or 0)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` with what has come."""
        count = self._answer.readinto(buffer)
        self._left -= count
        if not count and self._left > 0:
            raise ConnectionError(f"connection closed {self._left:,} bytes before the end")
        return count


def _expand(text: str) -> list[str]:
    """Brace notation: ``{a,b}`` and ``{00..31}``, the latter with leading zeros."""
    match = re.search(r"\{([^{}]*)\}", text)
    if not match:
        return [text]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    options = match[1].split(",")
    if span:
        options = [f"{i:0{len(span[1])}d}" for i in range(int(span[1]), int(span[2]) + 1)]
    return [one for o in options for one in _expand(text[: match.start()] + o + text[match.end() :])]


def _distinct(shards: list[Shard]) -> list[Shard]:
    """The shards, which must differ by file name: it is part of the names of their images."""
    for a, b in itertools.pairwise(shards):
        if a.name == b.name:
            raise DataError(f"two shards have one name: {a.where} and {b.where}; rename or leave out one")
    return shards
