"""Fake raw datasets for the tests of the data layer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_raw import Raw
from fake_server import Server

from rsbench.data.download import HUB_OFFLINE, OFFLINE


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    """Twenty pictures and their captions, not written yet."""
    folder = tmp_path / "files"
    folder.mkdir()
    return Raw(folder)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty data root."""
    return tmp_path / "root"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A local server without a file, which is the hub, too."""
    for name in (OFFLINE, HUB_OFFLINE, "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
