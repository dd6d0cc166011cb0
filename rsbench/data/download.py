"""Downloads that resume, and that check size, checksum and first bytes before a file counts as there."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock

from rsbench.data.card import Asset
from rsbench.data.hub import fetch_hub
from rsbench.errors import DownloadError
from rsbench.progress import Progress, silent

OFFLINE = "RSBENCH_OFFLINE"
HUB_OFFLINE = "HF_HUB_OFFLINE"
HUB_FOLDER = ".hub"
_OFF = ("", "0", "false", "no", "off")
_BLOCK = 1 << 18
_TIMEOUT = 30.0  # seconds without an answer
_ATTEMPTS = 3
_MAGIC = {".zip": (0, b"PK"), ".gz": (0, b"\x1f\x8b"), ".tgz": (0, b"\x1f\x8b"), ".tar": (257, b"ustar")}


def download(asset: Asset, folder: Path, otherwise: str, progress: Progress = silent) -> Path:
    """Fetch one file, or find it already fetched.

    A broken transfer leaves ``<filename>.part``, from which the next attempt goes on.

    Args:
        asset: address, name and, where known, size and sha256.
        folder: where it is kept.
        otherwise: what the user can do without the network; ends every message.
        progress: called per block with bytes.

    Returns:
        The complete, checked file.

    Raises:
        DownloadError: offline, refused by the server, broken off, of the wrong size or sum, or a web page
            instead of the file.
    """
    target = folder / asset.filename
    if target.is_file():
        return target
    if flag := offline():
        raise DownloadError(
            f"{asset.filename} is not here and {flag} forbids the network; unset it and try again, or {otherwise}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{asset.filename}.part"
    with FileLock(folder / f".{asset.filename}.lock"):
        if target.is_file():  # another process was faster
            return target
        try:
            if asset.hub:
                os.replace(fetch_hub(asset, folder / HUB_FOLDER, progress), part)
            else:
                _transfer(asset, part, progress)
        except DownloadError as error:
            raise DownloadError(f"{error}; try again, or {otherwise}") from error
        if wrong := _wrong_content(asset, part):
            part.unlink()
            raise DownloadError(f"{asset.url}: {wrong}; {otherwise}")
        os.replace(part, target)
    return target


def offline() -> str | None:
    """The variable that forbids the network, or None."""
    return next((flag for flag in (OFFLINE, HUB_OFFLINE) if os.environ.get(flag, "").lower() not in _OFF), None)


def _transfer(asset: Asset, part: Path, progress: Progress) -> None:
    """Fetch into ``part``, going on where a broken connection stopped."""
    for attempt in range(_ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            return _stream(asset, part, progress)
        except urllib.error.HTTPError as error:
            if error.code == 416 and before:  # the part is no prefix of the file (any more)
                part.unlink()
                continue
            raise DownloadError(f"{asset.url}: the server answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise
            done = part.stat().st_size if part.exists() else 0
            if attempt == _ATTEMPTS - 1 or done == before:
                reason = getattr(error, "reason", None) or error
                kept = f" after {done:,} bytes, which are kept: the same command goes on from there" if done else ""
                raise DownloadError(f"{asset.url}: cannot be fetched ({reason}){kept}") from error


def _stream(asset: Asset, part: Path, progress: Progress) -> None:
    start = part.stat().st_size if part.exists() else 0
    if asset.size is not None and start == asset.size:
        return
    request = urllib.request.Request(asset.url, headers={"User-Agent": "rsbench"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        if answer.status != 206:
            start = 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        done, what = start, f"downloading {asset.filename}"
        with part.open("ab" if start else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                done += len(block)
                progress(what, done, total or done + 1)
        if total is None:
            progress(what, done, done)
        elif done < total:
            raise ConnectionError(f"connection closed at {done:,} of {total:,} bytes")


def _wrong_content(asset: Asset, file: Path) -> str | None:
    """What shows that this is not the file, or None."""
    with file.open("rb") as stream:
        head = stream.read(512)
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return f"the server sent a web page instead of {asset.filename} (moved, or it wants a login)"
    if text.startswith(b"version https://git-lfs"):
        return f"the server sent a Git-LFS pointer instead of {asset.filename}"
    size = file.stat().st_size
    if asset.size is not None and size != asset.size:
        return f"{asset.filename} has {size:,} bytes, expected {asset.size:,}"
    if asset.sha256 is not None and _sha256(file) != asset.sha256:
        return f"{asset.filename} has another sha256 than the card says"
    offset, magic = _MAGIC.get(Path(asset.filename).suffix, (0, b""))
    if head[offset : offset + len(magic)] != magic:
        return f"{asset.filename} does not begin like a {Path(asset.filename).suffix} file"
    if asset.filename.endswith(".json") and text[:1] not in (b"{", b"["):
        return f"{asset.filename} does not begin like a JSON file"
    return None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
