"""Local weights are part of a run's identity by their contents, in a file or in a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rsbench.experiment.resolve import _digest


def test_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    assert _digest(tmp_path / "a.pt") == hashlib.sha256(b"weights").hexdigest()
    assert _digest(tmp_path / "none.pt") is None


def test_digest_of_a_folder_follows_names_and_contents(tmp_path: Path) -> None:
    found = set()
    for folder, name, content in (("a", "x", b"1"), ("b", "x", b"2"), ("c", "y", b"1")):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / name).write_bytes(content)
        found.add(_digest(tmp_path / folder))
    assert len(found) == 3 and None not in found
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(b"1")
    assert _digest(tmp_path / "d") == _digest(tmp_path / "a")
