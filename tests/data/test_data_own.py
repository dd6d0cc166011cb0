from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsbench.cli.app import main
from rsbench.data.captions import parse_captions
from rsbench.data.lifecycle import last_prepared, open_dataset, prepare
from rsbench.data.root import data_root
from rsbench.data.splits import seeded_split
from rsbench.errors import DataError, UnknownNameError, UsageError
from rsbench.registry import DATASETS


def table(folder: Path, lines: list[str], name: str = "pairs.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rows(count: int = 20) -> list[str]:
    return ["filename,caption", *(f'port_{i}.png,"ships, {i}"' for i in range(count)), "port_0.png,a second one"]


def test_own_pairs_are_packed_and_known_by_name_from_then_on(raw, root: Path) -> None:
    report = prepare("harbours", root, source=raw.images(), captions=table(raw.folder, rows()), image_size=8)
    data = open_dataset("harbours", root)
    assert data.captions[:3] == ("ships, 0", "a second one", "ships, 1") and data.captions_of[0].tolist() == [0, 1]
    assert {p: len(i) for p, i in data.splits["own"].items()} == {"train": 16, "val": 2, "test": 2}
    assert any("80 % train" in n for n in report.notes) and report.title.startswith("harbours")
    assert last_prepared(root) == "harbours"
    data_root(root)
    assert "harbours" in DATASETS.names() and DATASETS.load("harbours").splits == ("own",)
    assert not prepare("harbours", root).packed_now


def test_a_name_is_known_only_where_it_is_packed(raw, root: Path, tmp_path: Path) -> None:
    prepare("harbours", root, source=raw.images(), captions=table(raw.folder, rows()), image_size=8)
    with pytest.raises(UnknownNameError, match="unknown dataset 'harbours'"):
        open_dataset("harbours", tmp_path / "other")
    assert open_dataset("harbours", root).name == "harbours"


def test_split_and_class_columns(raw, root: Path) -> None:
    part = ["train", "val", "test"]
    lines = [
        "class;split;caption;filename;note",
        *(f"c{i % 2};{part[i % 3]};text {i};port_{i}.png;x" for i in range(9)),
    ]
    prepare("mine", root, source=raw.zip(), captions=table(raw.folder, lines), image_size=8)
    data = open_dataset("mine", root)
    assert {p: i.tolist() for p, i in data.splits["own"].items()} == {
        "train": [0, 3, 6],
        "val": [1, 4, 7],
        "test": [2, 5, 8],
    }
    assert data.classes == ("c0", "c1") and data.image_class.tolist() == [i % 2 for i in range(9)]


def test_json_captions_will_do(raw, root: Path) -> None:
    prepare("mine", root, source=raw.tar(), captions=raw.json(), image_size=8)
    assert {p: len(i) for p, i in open_dataset("mine", root).splits["own"].items()} == {
        "train": 15,
        "val": 3,
        "test": 2,
    }


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["file_name,caption", "a,b"],
            "no column 'filename'; it has: file_name, caption; rename 'file_name' to 'filena",
        ),
        (
            ["filename,text", "a,b"],
            "no column 'caption'; it has: filename, text; the first line must name it: filename,",
        ),
        ([""], "no column 'filename'; it has: nothing"),
        (["filename,caption,caption", "a,b,c"], "has the column 'caption' more than once"),
        (["filename,caption", "port_0.png,a", "port_1.png, "], "line 3 has an empty caption"),
        (["filename,caption", "port_0.png,a", ",b"], "line 3 has an empty filename"),
        (["filename,caption", "port_0.png,a, b"], "line 2 has 3 columns, the header 2; put texts with separators"),
        (["filename,caption", 'port_0.png,"a'], "is no CSV"),
        (
            ["filename,caption,split", "port_0.png,a,train", "port_0.png,b,val"],
            "line 3 gives .*the split 'val', an earl",
        ),
        (["filename,caption,split", "port_0.png,a,training"], "unknown split 'training', expected train, val, test"),
        (["filename,caption,split", "port_0.png,a,train", "port_1.png,b,"], "'port_1.png' has no 'split'"),
        (["filename,caption", "port_0.png,a", "port_1.png,b"], "2 images cannot be split into train, val, test"),
        (["filename,caption", "port_0.png,a", "port_1.png,b", "nope.png,b"], "1 of 3 images are missing.*nope.png"),
        (["filename,caption"], "holds no images"),
    ],
)
def test_bad_tables_say_where_and_what(raw, root: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare("mine", root, source=raw.images(), captions=table(raw.folder, lines))


def test_names_that_cannot_be(raw, root: Path) -> None:
    with pytest.raises(UsageError, match="is no name for a dataset"):
        prepare("../x", root, source=raw.images(), captions=table(raw.folder, rows()))
    with pytest.raises(DataError, match=r"needs both: rsbench prepare mine --images FOLDER --captions FILE.csv"):
        prepare("mine", root, source=raw.images())
    with pytest.raises(
        UnknownNameError, match=r"did you mean rsicd.*for your own pairs: rsbench prepare rsidc --images"
    ):
        prepare("rsidc", root)


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=12), st.sampled_from(",;\t"))
def test_any_texts_survive_a_table(pairs: list[tuple[str, str]], separator: str) -> None:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    lines = [separator.join(("filename", "caption")), *(separator.join(map(cell, pair)) for pair in pairs)]
    found = parse_captions("\r\n".join(lines).encode(), "x.csv")
    want: dict[str, list[str]] = {}
    for name, text in pairs:
        want.setdefault(name, []).append(text.replace("\u00a0", " "))
    assert [(r.filename, list(r.captions)) for r in found] == list(want.items())


@given(st.integers(3, 400))
def test_seeded_splits_share_out_every_image(count: int) -> None:
    split = seeded_split(count)
    assert sorted(i for ids in split.values() for i in ids) == list(range(count))
    assert len(split["val"]) == len(split["test"]) == max(count // 10, 1)
    assert all(ids == sorted(ids) for ids in split.values())


def test_commands_on_own_data(raw, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--root", str(root)]
    given = ["--images", str(raw.images()), "--captions", str(table(raw.folder, rows())), "--image-size", "8"]
    assert main(["prepare", "mine", *at, *given]) == 0 and "split own: drawn by rsbench" in capsys.readouterr().out
    assert main(["list", "datasets", "--json", *at]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)["datasets"]}
    assert listed["mine"]["state"].startswith("local, packed ") and listed["mine"]["summary"] == "your own pairs"
    assert main(["describe", "mine", *at]) == 0 and "splits         own" in capsys.readouterr().out
    assert main(["noise", "mine", "--rate", "0.5", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "own"
    words = ["plan", "--dataset", "mine", "--method", "infonce", "--backbone", "tiny", "--out", str(root / "o"), *at]
    assert main(words) == 0 and "mine" in capsys.readouterr().out
