from __future__ import annotations

import csv
import gzip
import random
from pathlib import Path

import pytest

from rsbench.data.captions import Record, parse_captions
from rsbench.data.sets import nwpu, rsicd, rsitmd, ucm
from rsbench.data.splits import OFFICIAL_LIST, OTHER_LIST, official_split, rrsitr, rrsitr_split
from rsbench.errors import DataError

FILES = {"rsicd": "rsicd.json.gz", "rsitmd": "rsitmd.json", "nwpu": "nwpu_captions_partial.json.gz"}


def real(shared: Path, name: str) -> list[Record]:
    return parse_captions((shared / "captions" / FILES[name]).read_bytes(), name)


def records(*parts: str, **more: str) -> list[Record]:
    return [Record(f"{i}.jpg", ("x",), p, **more) for i, p in enumerate(parts)]


def test_the_rule_is_a_seeded_shuffle_cut_at_nine_tenths() -> None:
    names = [str(i) for i in range(37)]
    order = names.copy()
    generator = random.Random(42)
    for i in range(len(order) - 1, 0, -1):  # Fisher-Yates as the standard library draws it
        j = generator._randbelow(i + 1)
        order[i], order[j] = order[j], order[i]
    train, val = rrsitr_split(names)
    assert (len(train), len(val)) == (33, 4)
    assert train + val == order and names[0] == "0"


@pytest.mark.parametrize("name", ["rsicd", "rsitmd"])
def test_row_order_is_that_of_the_published_noise_lists(shared: Path, name: str) -> None:
    with gzip.open(shared / "noise" / f"{name}_nc02.csv.gz", "rt") as file:
        published = list(dict.fromkeys(row["filename"] for row in csv.DictReader(file)))
    images = real(shared, name)
    split = rrsitr(images)
    assert [images[i].filename for i in split["train"]] == published
    for part, ids in split.items():
        assert {images[i].rrsitr_split for i in ids} == {part}


@pytest.mark.parametrize(("module", "name"), [(rsicd, "rsicd"), (rsitmd, "rsitmd")])
def test_a_card_knows_the_published_list(shared: Path, module, name: str) -> None:
    images = real(shared, name)
    schemes, facts = module._splits(images)
    assert facts["rrsitr_split"] == OFFICIAL_LIST
    assert {s: {p: len(i) for p, i in of.items()} for s, of in schemes.items()} == {
        "rsicd": {
            "rrsitr": {"train": 8845, "val": 983, "test": 1093},
            "official": {"train": 8734, "val": 1094, "test": 1093},
        },
        "rsitmd": {"rrsitr": {"train": 3861, "val": 430, "test": 452}, "official": {"train": 4291, "test": 452}},
    }[name]
    bare = [Record(r.filename, r.captions, r.split) for r in reversed(images)]
    assert module._splits(bare)[1]["rrsitr_split"] == OTHER_LIST


def test_complete_nwpu_names_reproduce_the_published_val_part(shared: Path) -> None:
    part = real(shared, "nwpu")
    scenes = sorted({r.scene for r in part})
    names = [f"{scene}_{n:03d}.jpg" for scene in scenes for n in range(1, 701)]
    full = [Record(name, ("x",), None, None, name[:-8]) for name in names]
    schemes, facts = nwpu._splits(full)
    assert {full[i].filename for i in schemes["rrsitr"]["val"]} == {r.filename for r in part if r.rrsitr_split == "val"}
    assert facts["rrsitr_split"] == OFFICIAL_LIST
    assert {p: len(i) for p, i in schemes["official"].items()} == {"train": 25_200, "val": 3_150, "test": 3_150}


def test_partial_nwpu_uses_what_the_file_says(shared: Path) -> None:
    schemes, facts = nwpu._splits(real(shared, "nwpu"))
    assert {p: len(i) for p, i in schemes["rrsitr"].items()} == {"train": 7_356, "val": 2_835, "test": 3_150}
    assert facts["rrsitr_split"] == OTHER_LIST


def test_a_file_that_contradicts_the_rule_is_refused(shared: Path) -> None:
    with pytest.raises(DataError, match="rrsitr_split says"):
        rrsitr(list(reversed(real(shared, "rsitmd"))))


def test_official_parts_keep_file_order() -> None:
    images = records("val", "train", "test", "train")
    assert official_split(images) == {"train": [1, 3], "val": [0], "test": [2]}
    assert official_split(images, val=False) == {"train": [0, 1, 3], "test": [2]}
    with pytest.raises(DataError, match=r"'0.jpg' has no 'split'"):
        official_split(records(None))


@pytest.mark.parametrize(("number", "part"), [(1, "train"), (560, "train"), (561, "val"), (630, "val"), (631, "test")])
def test_nwpu_part_by_number(number: int, part: str) -> None:
    assert nwpu.part_of(f"railway_station_{number:03d}.jpg") == part


@pytest.mark.parametrize("name", ["airport_701.jpg", "airport_000.jpg", "airport.jpg"])
def test_nwpu_names_without_a_number_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="001 to 700"):
        nwpu.part_of(name)


@pytest.mark.parametrize(
    ("name", "scene"),
    [("1.tif", "agricultural"), ("100.tif", "agricultural"), ("2100.tif", "tenniscourt"), ("x.tif", None)],
)
def test_ucm_scene_by_number(name: str, scene: str | None) -> None:
    assert ucm.scene(Record(name, ("x",))) == scene


def test_scenes_from_names_agree_with_the_written_ones(shared: Path) -> None:
    for module, file in ((ucm.scene, "ucm_captions.json"), (rsitmd._scene, "rsitmd.json")):
        images = parse_captions((shared / "captions" / file).read_bytes(), file)
        assert all(module(Record(r.filename, r.captions)) == r.scene for r in images)
