"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as runs do: results then never depend on the number of cores


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data that is never part of the repository; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("RSBENCH_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"needs the real data folder {folder.name}/ beside the checkout (or RSBENCH_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder for the whole session (and all its worker processes), where the toy dataset is made once."""
    base = tmp_path_factory.getbasetemp()
    shared_by_workers = "PYTEST_XDIST_WORKER" in os.environ
    return (base.parent if shared_by_workers else base) / "rsbench-data"


@pytest.fixture(autouse=True)
def _own_data_folder(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's own data folder."""
    monkeypatch.setenv("RSBENCH_DATA", str(data_root))
