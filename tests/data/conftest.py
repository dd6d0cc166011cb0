"""Fake raw datasets for the tests of the data layer."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_raw import Raw


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
