from __future__ import annotations

import gzip
import json
from copy import deepcopy

import pytest
from fake_raw import karpathy

from rsbench.data.captions import Record, parse_captions
from rsbench.errors import DataError

PLAIN = {"images": [{"filename": "a.jpg", "split": "val", "rrsitr_split": "train", "class": "x", "captions": [" c ."]}]}
NWPU = {
    "airport": [
        {"filename": "airport_001.jpg", "imgid": 0, "raw": "one", "raw_1": "two", "raw_10": "four", "raw_2": "three"}
    ]
}


def parse(data: object, name: str = "f.json") -> list[Record]:
    return parse_captions(json.dumps(data).encode(), name)


def test_karpathy_form() -> None:
    records = parse(karpathy(5))
    assert records[1] == Record("port_1.png", ("ships in port 1 .", "a port ."), "train")
    assert [r.split for r in records] == ["val", "train", "train", "train", "test"]


def test_plain_form_and_gzip() -> None:
    want = [Record("a.jpg", ("c .",), "val", "train", "x")]
    assert parse(PLAIN) == want
    assert parse_captions(gzip.compress(json.dumps(PLAIN).encode()), "f.json.gz") == want


def test_class_keyed_form_keeps_the_order_of_raw_numbers() -> None:
    assert parse(NWPU) == [Record("airport_001.jpg", ("one", "two", "three", "four"), None, None, "airport")]


def test_restval_is_train_and_non_breaking_spaces_are_spaces() -> None:
    data = {"images": [{"filename": "a", "split": "restval", "captions": ["x\u00a0y"]}]}
    assert parse(data) == [Record("a", ("x y",), "train")]


def _spoiled(change) -> dict:
    data = deepcopy(karpathy(5))
    change(data["images"])
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "top level: expected an object, got list"),
        ({"images": {}}, "images: expected a list, got dict"),
        ({"images": []}, "holds no images"),
        ({"info": "x"}, "lists under class names, got str at info"),
        (_spoiled(lambda i: i.__setitem__(3, "x")), r"images\[3\]: expected an object, got str"),
        (_spoiled(lambda i: i[2].pop("filename")), r"images\[2\]: has no 'filename'"),
        (_spoiled(lambda i: i[2].update(filename=7)), r"images\[2\].filename: expected text, got int"),
        (_spoiled(lambda i: i[2].update(sentences="x")), r"images\[2\].sentences: expected a list, got str"),
        (_spoiled(lambda i: i[2].update(sentences=[])), r"images\[2\]: image 'port_2.png' has no captions"),
        (_spoiled(lambda i: i[2]["sentences"][1].pop("raw")), r"images\[2\].sentences\[1\]: has no 'raw'"),
        (_spoiled(lambda i: i[2]["sentences"][1].update(raw=" ")), r"sentences\[1\].raw: empty caption"),
        (_spoiled(lambda i: i[2]["sentences"][1].update(raw=None)), r"sentences\[1\].raw: expected text, got NoneType"),
        (_spoiled(lambda i: i[2]["sentences"][1].update(raw="\ud800")), "lone surrogate"),
        (_spoiled(lambda i: i[2]["sentences"][1].update(imgid=99)), "caption of unknown image: imgid 99"),
        (_spoiled(lambda i: i[2].update(split="training")), r"images\[2\].split: unknown split 'training'"),
        (
            _spoiled(lambda i: i[2].update(filename="port_0.png")),
            r"duplicated filename 'port_0.png' \(images 0 and 2\)",
        ),
        ({"airport": [{"filename": "a_1.jpg"}]}, r"airport\[0\]: image 'a_1.jpg' has no captions"),
    ],
)
def test_a_bad_file_is_told_where(data: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [\n"caf\xe9"]}', r"not UTF-8: byte 0xe9 at offset 17 \(line 2\)"),
        (b'{"images": [', "not JSON"),
        (b"\x1f\x8bxxxx", "damaged gzip"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_bad_bytes_are_told(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_captions(content, "f.json")
