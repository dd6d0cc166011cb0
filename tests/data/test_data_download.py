from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_raw import karpathy

from rsbench.data.card import Asset
from rsbench.data.download import OFFLINE, download
from rsbench.data.lifecycle import open_dataset, prepare
from rsbench.data.sets import sydney
from rsbench.errors import DownloadError


class Server(ThreadingHTTPServer):
    """Serves ``files``; answers ``break_after`` bytes of a body and hangs up, once per entry."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.break_after: list[int] = []
        self.ranges: list[str | None] = []
        self.ignore_range = False

    def asset(self, name: str, content: bytes | None = None, **facts: object) -> Asset:
        if content is not None:
            self.files[name] = content
        return Asset(f"http://127.0.0.1:{self.server_port}/{name}", name, **facts)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        body = self.server.files.get(self.path[1:])
        if body is None:
            return self.send_error(404)
        start = int(asked[6:-1]) if asked and not self.server.ignore_range else 0
        if start and start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        stop = self.server.break_after.pop(0) if self.server.break_after else len(body)
        self.wfile.write(body[start : start + stop])

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A local server without a file."""
    for name in (OFFLINE, "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


ZIP = b"PK\x03\x04" + bytes(range(256)) * 4_000


def test_a_checked_file_is_kept_and_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    asset = server.asset("a.zip", ZIP, size=len(ZIP), sha256=hashlib.sha256(ZIP).hexdigest())
    seen: list[tuple[int, int]] = []
    path = download(asset, tmp_path / "d", "or", lambda what, done, total: seen.append((done, total)))
    assert path.read_bytes() == ZIP and seen[-1] == (len(ZIP), len(ZIP))
    assert seen == sorted(seen) and len(seen) > 2
    assert download(asset, tmp_path / "d", "or") == path and len(server.ranges) == 1


def test_a_broken_transfer_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.break_after = [300_000, 400_000]
    path = download(server.asset("a.zip", ZIP, size=len(ZIP)), tmp_path, "or")
    assert path.read_bytes() == ZIP
    assert server.ranges[0] is None and len(server.ranges) == 3
    assert all(r.startswith("bytes=") and int(r[6:-1]) > 0 for r in server.ranges[1:])


def test_a_part_of_an_earlier_process_is_resumed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(ZIP[:1_000])
    assert download(server.asset("a.zip", ZIP), tmp_path, "or").read_bytes() == ZIP
    assert server.ranges == ["bytes=1000-"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ignore_range = True
    (tmp_path / "a.zip.part").write_bytes(b"junk")
    assert download(server.asset("a.zip", ZIP), tmp_path, "or").read_bytes() == ZIP


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(ZIP + b"more")
    assert download(server.asset("a.zip", ZIP), tmp_path, "or").read_bytes() == ZIP


def test_giving_up_keeps_the_part_and_says_so(server: Server, tmp_path: Path) -> None:
    server.break_after = [1_000, 1_000, 1_000]
    with pytest.raises(DownloadError, match=r"after 3,000 bytes, which are kept.*; try again, or walk"):
        download(server.asset("a.zip", ZIP), tmp_path, "walk")
    assert (tmp_path / "a.zip.part").stat().st_size == 3_000 and not (tmp_path / "a.zip").exists()
    assert download(server.asset("a.zip"), tmp_path, "walk").read_bytes() == ZIP


@pytest.mark.parametrize(
    ("name", "content", "facts", "message"),
    [
        ("a.zip", b"<!DOCTYPE html><html>log in</html>", {}, "web page instead of a.zip"),
        ("a.tar.gz", b"\n <HTML>", {}, "web page instead of a.tar.gz"),
        ("a.zip", b"version https://git-lfs.github.com/spec/v1\n", {}, "Git-LFS pointer instead of a.zip"),
        ("a.zip", ZIP, {"size": 5}, "has 1,024,004 bytes, expected 5"),
        ("a.zip", ZIP, {"sha256": "0" * 64}, "another sha256"),
        ("a.zip", b"Rar!", {}, "does not begin like a .zip file"),
        ("a.tar.gz", ZIP, {}, "does not begin like a .gz file"),
        ("a.tar", ZIP, {}, "does not begin like a .tar file"),
        ("a.json", b"hello", {}, "does not begin like a JSON file"),
    ],
)
def test_wrong_content_never_counts_as_there(
    server: Server, tmp_path: Path, name: str, content: bytes, facts: dict, message: str
) -> None:
    with pytest.raises(DownloadError, match=f"{message}.*; walk"):
        download(server.asset(name, content, **facts), tmp_path, "walk")
    assert not [p for p in tmp_path.iterdir() if not p.name.endswith(".lock")]


def test_server_errors_and_silence_are_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"the server answers 404 .*; try again, or walk"):
        download(server.asset("a.zip"), tmp_path, "walk")
    gone = replace(server.asset("a.zip"), url="http://127.0.0.1:9/a.zip")
    with pytest.raises(DownloadError, match=r"cannot be fetched .*; try again, or walk"):
        download(gone, tmp_path, "walk")


def test_offline_is_told_unless_the_file_is_there(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OFFLINE, "1")
    asset = server.asset("a.zip", ZIP)
    with pytest.raises(DownloadError, match=r"a.zip is not here and RSBENCH_OFFLINE forbids.*, or walk"):
        download(asset, tmp_path, "walk")
    assert not server.ranges
    (tmp_path / "a.zip").write_bytes(ZIP)
    assert download(asset, tmp_path, "walk").read_bytes() == ZIP


def test_prepare_downloads_images_and_captions(
    server: Server, raw, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = (
        server.asset("images.zip", raw.zip().read_bytes()),
        server.asset("dataset.json", json.dumps(karpathy()).encode()),
    )
    monkeypatch.setattr(sydney, "CARD", replace(sydney.CARD, assets=assets, image_size=8))
    assert prepare("sydney", root).packed_now
    assert len(open_dataset("sydney", root).filenames) == 20
    assert len(server.ranges) == 2
    prepare("sydney", root, overwrite=True)
    assert len(server.ranges) == 2


def test_a_download_with_its_captions_inside(server: Server, raw, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO(raw.zip().read_bytes())
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("x/dataset.json", json.dumps(karpathy()))
    monkeypatch.setattr(
        sydney, "CARD", replace(sydney.CARD, assets=(server.asset("s.zip", out.getvalue()),), image_size=8)
    )
    assert prepare("sydney", root).splits["official"]["train"].images == 15
