from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rsbench.data.parts import Parts, Unreadable
from rsbench.data.store import read_store, write_store
from rsbench.errors import DataError

N, SIDE = 7, 4
IMAGES = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)


def parts(**changes: object) -> Parts:
    """Seven images, image i with i % 3 + 1 captions."""
    owners = [i for i in range(N) for _ in range(i % 3 + 1)]
    return replace(
        Parts(
            name="unit",
            images=IMAGES,
            filenames=[f"{i}.png" for i in range(N)],
            captions=[f"caption {i} of é" for i in owners],
            caption_image=owners,
            classes=["a", "b"],
            image_class=[0, 1, -1, 0, 1, -1, 0],
            splits={"official": {"train": [4, 2, 0], "val": [6], "test": [1, 3, 5]}},
            info={"title": "Unit"},
        ),
        **changes,
    )


def write(folder: Path, given: Parts, **options: bool) -> Path:
    folder.mkdir()
    write_store(folder, given, **options)
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    data = read_store(write(tmp_path / "s", parts()), "unit")
    assert isinstance(data.images, np.memmap) and np.array_equal(data.images, IMAGES)
    assert data.images_hash == hashlib.sha256(IMAGES.tobytes()).hexdigest()
    assert data.captions == tuple(parts().captions) and data.captions_of[2].tolist() == [3, 4, 5]
    assert data.part("official", "train").tolist() == [4, 2, 0]
    assert (data.classes, data.image_class.tolist()) == (("a", "b"), [0, 1, -1, 0, 1, -1, 0])
    assert data.info == {"title": "Unit"} and data.missing == ()


def test_a_generator_of_images_gives_the_same_store_as_an_array(tmp_path: Path) -> None:
    a = write(tmp_path / "a", parts())
    b = write(tmp_path / "b", parts(images=(image for image in IMAGES)))
    assert [(a / f).read_bytes() for f in ("images.npy", "dataset.json")] == [
        (b / f).read_bytes() for f in ("images.npy", "dataset.json")
    ]


def test_fingerprint_follows_everything_that_changes_numbers(tmp_path: Path) -> None:
    flipped = IMAGES.copy()
    flipped[3, 0, 0, 0] ^= 1
    variants = [
        {},
        {"revision": 2},
        {"images": flipped},
        {"captions": ["other", *parts().captions[1:]]},
        {"filenames": ["other", *parts().filenames[1:]]},
        {"image_class": [1, 1, -1, 0, 1, -1, 0]},
        {"splits": {"official": {"train": [2, 4, 0], "val": [6], "test": [1, 3, 5]}}},
        {"splits": {"rrsitr": parts().splits["official"]}},
    ]
    prints = [read_store(write(tmp_path / str(i), parts(**v)), "unit").fingerprint for i, v in enumerate(variants)]
    assert len(set(prints)) == len(variants)
    assert read_store(write(tmp_path / "info", parts(info={"x": 1})), "unit").fingerprint == prints[0]


def test_unreadable_images_are_refused_with_count_and_reason(tmp_path: Path) -> None:
    images = [Unreadable("truncated") if i in (2, 5) else image for i, image in enumerate(IMAGES)]
    with pytest.raises(DataError, match=r"2 of 7 images .*2.png \(truncated\), 5.png \(truncated\).*--allow-partial"):
        write(tmp_path / "s", parts(images=images))


def test_dropped_images_leave_every_table_consistent(tmp_path: Path) -> None:
    images = [Unreadable("truncated") if i in (0, 2, 6) else image for i, image in enumerate(IMAGES)]
    data = read_store(write(tmp_path / "s", parts(images=images), allow_partial=True), "unit")
    assert data.missing == ("0.png", "2.png", "6.png")
    kept = [1, 3, 4, 5]
    assert data.filenames == tuple(f"{i}.png" for i in kept) and np.array_equal(data.images, IMAGES[kept])
    assert data.image_class.tolist() == [parts().image_class[i] for i in kept]
    assert data.images_hash == hashlib.sha256(IMAGES[kept].tobytes()).hexdigest()
    for caption, image in zip(data.captions, data.caption_image, strict=True):
        assert caption == f"caption {kept[image]} of é"
    assert len(data.captions) == sum(i % 3 + 1 for i in kept)
    shown = {p: [data.filenames[i] for i in ids] for p, ids in data.splits["official"].items()}
    assert shown == {"train": ["4.png"], "val": [], "test": ["1.png", "3.png", "5.png"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES[:5]}, "5 images for 7 file names"),
        ({"images": IMAGES.astype(np.float32)}, "expected uint8"),
        ({"images": IMAGES[:, :3]}, "expected uint8"),
        ({"image_class": [0]}, "7 images with 1 classes"),
        ({"caption_image": [9] * 13}, "points outside its 7 images"),
        ({"caption_image": [0] * 13}, "6 images without captions, first 1.png"),
        ({"splits": {"official": {"train": [0, 1], "test": [1]}}}, "has an image twice"),
        ({"images": [Unreadable("x")] * N}, "not one of its 7 images"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write(tmp_path / "s", parts(**changes), allow_partial=True)


def _edit(folder: Path, **changes: object) -> None:
    meta = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**meta, **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "dataset.json").unlink(), "no readable dataset.json"),
        (lambda f: (f / "dataset.json").write_text("{"), "no readable dataset.json"),
        (lambda f: (f / "dataset.json").write_text("[]"), "no readable dataset.json"),
        (lambda f: _edit(f, schema=99), "has schema 99, this version reads 1"),
        (lambda f: (f / "images.npy").unlink(), "is damaged"),
        (lambda f: (f / "images.npy").write_bytes((f / "images.npy").read_bytes()[:-10]), "is damaged"),
        (lambda f: np.save(f / "images.npy", IMAGES[:3]), r"is uint8 \[3, 4, 4, 3\], expected uint8 \[7, 4, 4, 3\]"),
        (lambda f: np.save(f / "images.npy", np.array([{}], dtype=object)), "is damaged"),
        (lambda f: _edit(f, captions=["x"]), "tables of different lengths"),
        (lambda f: _edit(f, splits={"official": {"train": [7]}}), "outside the 7 images"),
        (lambda f: _edit(f, splits=3), "is damaged"),
    ],
)
def test_damaged_stores_say_what_and_what_to_type(tmp_path: Path, damage, message: str) -> None:
    folder = write(tmp_path / "s", parts())
    damage(folder)
    with pytest.raises(DataError, match=f"{message}.*rsbench prepare unit --overwrite"):
        read_store(folder, "unit")
