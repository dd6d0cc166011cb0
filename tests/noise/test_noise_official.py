"""RRSITR's published lists, row by row and byte by byte. Everything here is built without the code under test."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rsbench.data.card import DatasetCard
from rsbench.data.dataset import Dataset
from rsbench.errors import NoiseError, UsageError
from rsbench.noise.formats import read_pairs, write_pairs
from rsbench.noise.index import NoiseSpec, realised
from rsbench.noise.inspect import summarise
from rsbench.noise.make import make_index, resolve_source
from rsbench.noise.official import LISTS, RATES

FILES = {"rsitmd": "rsitmd.json", "rsicd": "rsicd.json.gz"}
FOLDERS = {"rsitmd": "RSITMD/images/", "rsicd": "RSICD/RSICD_images/"}

# rows moved, text differs, caption from another image, text not among the image's own, images with such a row
TABLE = {
    ("rsitmd", 0.2): (3859, 3859, 3859, 3859, 2589),
    ("rsitmd", 0.4): (7719, 7719, 7719, 7719, 3553),
    ("rsitmd", 0.6): (11583, 11583, 11580, 11580, 3821),
    ("rsitmd", 0.8): (15443, 15443, 15441, 15441, 3858),
    ("rsicd", 0.2): (8845, 8841, 8845, 8840, 5956),
    ("rsicd", 0.4): (17687, 17674, 17683, 17664, 8179),
    ("rsicd", 0.6): (26535, 26516, 26534, 26507, 8767),
    ("rsicd", 0.8): (35379, 35362, 35378, 35352, 8843),
}
# git ids (SHA-1 of "blob SIZE\0" and content) of the CSV files in the form of the repository:
# columns filename,title, CRLF line ends, its authors' folder before each name
BLOBS = {
    "rsitmd": """
        b6f2d6720e7cf609084b7df365ba079fdf519e9f
        6d9a4febcab4344aac511f285168636281befb6a
        f5edad07204fd1cd19c0544a800e1bcb8a1c1656
        7d8196129daf4f84064ba21d65fa8c67406346e7
        86854529aca2c33c1fc3acbd7c05289fcdb91de1
    """,
    "rsicd": """
        06785faad94faf9aa86594e6f2b4f04ae65fc43a
        499bd0bce5d0c758653d560882b89d671acd825f
        0f886fffeccac29b9f5304c8ff7b3c683097f7d0
        1db405401fde1fbf818a34c30efa655735bcecd3
        88d522d93ad0b9dbc19261a46f5b0209d211848a
    """,
}
SIZES = {"rsitmd": 2_216_578}


def load(folder: Path, name: str) -> Dataset:
    path = folder / "captions" / FILES[name]
    images = json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())["images"]
    order = [i for i, image in enumerate(images) if image["split"] != "test"]
    random.Random(42).shuffle(order)
    train = order[: int(0.9 * len(order))]
    return Dataset(
        name=name,
        fingerprint="real",
        images=np.zeros((len(images), 1, 1, 3), np.uint8),
        images_hash="",
        filenames=tuple(i["filename"] for i in images),
        captions=tuple(c for i in images for c in i["captions"]),
        caption_image=np.repeat(np.arange(len(images)), [len(i["captions"]) for i in images]),
        image_class=np.full(len(images), -1, dtype=np.int64),
        classes=(),
        splits={"rrsitr": {"train": np.array(train), "val": np.array(order[len(train) :])}},
    )


@pytest.fixture(scope="module")
def real(shared: Path) -> dict[str, Dataset]:
    return {name: load(shared, name) for name in FILES}


def official(data: Dataset, rate: float):
    return make_index(data, "rrsitr", NoiseSpec(rate=rate, source="official"))


@pytest.mark.parametrize(("name", "rate"), list(TABLE))
def test_every_row_is_the_published_one(shared, real, name, rate) -> None:
    data = real[name]
    shown = official(data, rate).pairs
    with gzip.open(shared / "noise" / f"{name}_nc{rate * 10:02.0f}.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(shown) == LISTS[name].pairs
    train = data.splits["rrsitr"]["train"]
    for r, row in enumerate(rows):
        source = int(row["source_row"])
        assert int(row["row"]) == r
        assert row["filename"] == data.filenames[shown[r, 0]]
        assert shown[r].tolist() == [train[r // 5], train[source // 5] * 5 + source % 5]


@pytest.mark.parametrize(("name", "rate"), list(TABLE))
def test_realised_numbers_are_the_published_ones(real, name, rate) -> None:
    data = real[name]
    index = official(data, rate)
    moved, differs, foreign, mismatched, images = TABLE[name, rate]
    clean, n = data.pairs("rrsitr", "train"), len(index.pairs)
    got = realised(data, index)
    assert [round(v * n) for v in (got.moved, got.foreign, got.mismatched)] == [moved, foreign, mismatched]
    assert int((data.caption_text[index.pairs[:, 1]] != data.caption_text[clean[:, 1]]).sum()) == differs
    assert summarise(data, index).noisy_images == images


def test_the_histogram_of_rsitmd_at_80_percent(real) -> None:
    data = real["rsitmd"]
    index = official(data, 0.8)
    moved = (index.pairs != data.pairs("rrsitr", "train")).any(axis=1).reshape(-1, 5).sum(axis=1)
    assert (int((moved == 5).sum()), int((moved == 0).sum())) == (1254, 3)
    # one of the 1,254 gets one of its own captions back, in another row
    assert summarise(data, index).noisy_per_image == (3, 31, 195, 761, 1618, 1253)


@pytest.mark.parametrize("name", FILES)
def test_exported_csv_has_the_bytes_of_the_repository(real, tmp_path, name) -> None:
    ids = []
    for rate in (0.0, *RATES):
        path = tmp_path / f"{rate}.csv"
        write_pairs(real[name], official(real[name], rate), path)
        header, *lines = path.read_bytes().split(b"\r\n")[:-1]
        folder = f"/xiaolin/xyq/RS/Datasets/{FOLDERS[name]}".encode()
        content = b"\r\n".join([header, *(folder + line for line in lines), b""])
        ids.append(hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())
        assert len(content) == SIZES.get(name, len(content))
        path.write_bytes(content)
        again, shown = read_pairs(real[name], "rrsitr", path), official(real[name], rate).pairs
        assert np.array_equal(again[:, 0], shown[:, 0])
        text = real[name].caption_text
        assert np.array_equal(text[again[:, 1]], text[shown[:, 1]])
    assert ids == BLOBS[name].split()


def test_the_compact_csv_of_the_shared_folder_is_read_exactly(shared, real) -> None:
    pairs = read_pairs(real["rsitmd"], "rrsitr", shared / "noise" / "rsitmd_nc06.csv.gz")
    assert np.array_equal(pairs, official(real["rsitmd"], 0.6).pairs)


def test_rates_are_drawn_afresh_and_zero_is_clean(real) -> None:
    data = real["rsitmd"]
    clean = data.pairs("rrsitr", "train")
    assert np.array_equal(official(data, 0.0).pairs, clean)
    moved = {r: (official(data, r).pairs != clean).any(axis=1) for r in RATES}
    shares = [float(moved[r][moved[0.2]].mean()) for r in (0.4, 0.6, 0.8)]
    assert shares == pytest.approx([0.395, 0.618, 0.800], abs=5e-4)


def test_noise_seed_does_not_touch_a_published_list(real) -> None:
    data = real["rsitmd"]
    other = make_index(data, "rrsitr", NoiseSpec(rate=0.4, source="official", seed=7))
    assert other.sha256 == official(data, 0.4).sha256


def test_another_copy_is_refused(real) -> None:
    data = real["rsitmd"]
    train = data.splits["rrsitr"]["train"]
    for part in (train[:-1], train[::-1].copy()):
        with pytest.raises(NoiseError, match=r"names 19,305 training pairs in a fixed order; this copy has"):
            official(replace(data, splits={"rrsitr": {"train": part}}), 0.4)


CARD = DatasetCard(
    "rsitmd", "RSITMD", "m:f", 224, ("rrsitr", "official"), "tiny", "full", official_rates={"rrsitr": RATES}
)


@pytest.mark.parametrize(
    ("split", "unit", "rate", "message"),
    [
        ("official", "caption", 0.4, "are for split rrsitr, not 'official'"),
        ("rrsitr", "image", 0.4, "official lists shuffle captions; for kind 'shuffle', unit 'image'"),
        ("rrsitr", "caption", 0.5, "has no official list at rate 0.5, only at 0, 0.2, 0.4, 0.6, 0.8"),
    ],
)
def test_settings_without_a_list(build, split, unit, rate, message) -> None:
    assert resolve_source(CARD, split, "shuffle", unit, rate, None) == "generated"
    with pytest.raises(UsageError, match=message):
        resolve_source(CARD, split, "shuffle", unit, rate, "official")
    data = replace(build([5] * 4, name="rsitmd"), splits={split: build([5] * 4).splits["official"]})
    with pytest.raises(UsageError, match=message):
        make_index(data, split, NoiseSpec(rate=rate, unit=unit, source="official"))


def test_settings_with_a_list() -> None:
    for rate in (0.0, 0.1 + 0.1, 0.4, 0.1 * 6, 0.8):
        assert resolve_source(CARD, "rrsitr", "shuffle", "caption", rate, None) == "official"
    assert resolve_source(CARD, "rrsitr", "shuffle", "caption", 0.4, "generated") == "generated"


def test_float_dust_in_the_rate_changes_nothing(real) -> None:
    assert official(real["rsitmd"], 0.1 * 6).sha256 == official(real["rsitmd"], 0.6).sha256


def test_cards_promise_exactly_the_lists_that_exist() -> None:
    from rsbench.registry import DATASETS

    for name in DATASETS.names():
        promised = dict(DATASETS.load(name).official_rates)
        assert promised == (dict(LISTS[name].rates) if name in LISTS else {})
