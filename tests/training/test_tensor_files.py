"""Tensors in a file that is whole or absent, and nothing beside it whatever happens."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from rsbench.files import sweep, temporary
from rsbench.training import checkpoint
from rsbench.training.checkpoint import read_tensors, write_tensors

OLD, NEW = ({"a": torch.full((3,), v)} for v in (1.0, 2.0))


def dying(plain: Any, path: Path, **_: object) -> None:
    """As the library writes: under a random name beside the file that was asked for."""
    Path(path).with_name(".tmpa1B2c3").write_bytes(b"half")
    os._exit(9)


def killed_writer(path: Path) -> None:
    checkpoint.save_file = dying  # type: ignore[assignment]
    write_tensors(path, NEW)


def test_what_a_killed_writer_leaves_is_swept_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_tensors(path, OLD, {"epoch": 3})
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    writer = multiprocessing.get_context("fork").Process(target=killed_writer, args=(path,))
    writer.start()
    writer.join()
    assert writer.exitcode == 9
    assert len(list(tmp_path.rglob(".tmpa1B2c3"))) == 1, "the kill left something"
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    tensors, state = read_tensors(path)
    assert tensors["a"].tolist() == [1.0, 1.0, 1.0] and state == {"epoch": 3}


def test_a_leftover_of_the_same_process_number_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    left = temporary(path)
    left.mkdir()
    (left / path.name).write_bytes(b"half")
    write_tensors(path, NEW)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert read_tensors(path)[0]["a"].tolist() == [2.0, 2.0, 2.0]


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(plain: Any, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(tmp_path / "weights.safetensors", NEW)
    assert not list(tmp_path.iterdir())
