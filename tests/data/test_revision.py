"""A store of an older revision is never taken for the present one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from rsbench.data.lifecycle import open_dataset, store_folder
from rsbench.data.parts import Parts
from rsbench.data.store import META, write_store
from rsbench.errors import DataError
from rsbench.registry import DATASETS


def packed(root: Path, name: str, revision: int) -> Path:
    """A store of two images."""
    folder = store_folder(root, name)
    folder.mkdir(parents=True)
    parts = Parts(
        name=name, images=np.zeros((2, 4, 4, 3), np.uint8), filenames=["a", "b"], captions=["x", "y"],
        caption_image=[0, 1], classes=(), image_class=[-1, -1], splits={"official": {"train": [0], "test": [1]}},
        revision=revision,
    )  # fmt: skip
    write_store(folder, parts)
    return folder


def test_an_older_packed_dataset_must_be_packed_again(tmp_path: Path) -> None:
    packed(tmp_path, "ucm", DATASETS.load("ucm").revision)
    assert open_dataset("ucm", tmp_path).filenames == ("a", "b")
    packed(tmp_path / "old", "ucm", 0)
    with pytest.raises(DataError, match=r"packed as revision 0.*rsbench prepare ucm --overwrite"):
        open_dataset("ucm", tmp_path / "old")


def test_an_older_generated_dataset_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = packed(tmp_path, "toy", 0)
    made = []

    def read(source: object, captions: object, card: object, options: object, progress: object) -> Parts:
        made.append(card)
        return Parts(
            name="toy", images=np.zeros((1, 4, 4, 3), np.uint8), filenames=["new"], captions=["x"], caption_image=[0],
            classes=(), image_class=[-1], splits={"official": {"train": [0]}},
        )  # fmt: skip

    monkeypatch.setattr("rsbench.data.sets.toy.read", read)
    card = dataclasses.replace(DATASETS.load("toy"), image_size=4)
    monkeypatch.setattr("rsbench.data.sets.toy.CARD", card)
    assert open_dataset("toy", tmp_path).filenames == ("new",)
    assert json.loads((folder / META).read_bytes())["revision"] == card.revision
    open_dataset("toy", tmp_path)
    assert len(made) == 1
