from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_raw import karpathy

from rsbench.data import store
from rsbench.data.card import DatasetCard
from rsbench.data.download import OFFLINE
from rsbench.data.images import decode
from rsbench.data.lifecycle import is_packed, last_prepared, open_dataset, prepare, store_folder
from rsbench.data.parts import Parts, ReadOptions
from rsbench.data.root import data_root
from rsbench.data.sets import sydney
from rsbench.errors import DataError, UnknownNameError
from rsbench.progress import Progress


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFFLINE, "1")


@pytest.mark.parametrize("form", ["images", "tar", "zip", "gz"])
def test_sydney_from_every_form_of_source(raw, root: Path, form: str) -> None:
    source = raw.tar("raw.tgz") if form == "gz" else getattr(raw, form)()
    report = prepare("sydney", root, source=source, captions=raw.json(), image_size=8)
    data = open_dataset("sydney", root)
    assert data.filenames == tuple(f"port_{i}.png" for i in range(20)) and data.images.shape == (20, 8, 8, 3)
    assert all(np.array_equal(data.images[i], decode(raw.files[f], 8)) for i, f in enumerate(data.filenames))
    assert (report.fingerprint, report.packed_now, report.image_size) == (data.fingerprint, True, 8)
    assert report.splits["official"]["test"].captions == 4
    assert report.t2i_bound["official"]["R@1"] == pytest.approx(75.0)


def test_all_forms_have_one_fingerprint(raw, tmp_path: Path) -> None:
    sources = [raw.images(), raw.tar(), raw.zip(), raw.tar("raw.tar.gz", "deep/er/")]
    prints = {
        prepare("sydney", tmp_path / str(i), source=s, captions=raw.json(), image_size=8).fingerprint
        for i, s in enumerate(sources)
    }
    assert len(prints) == 1


def test_captions_are_found_inside_the_source(raw, root: Path) -> None:
    folder = raw.images()
    (folder / "dataset.json").write_text(json.dumps(karpathy()))
    (folder / "keywords.json").write_text("{}")
    prepare("ucm", root, source=folder, image_size=8)
    assert len(open_dataset("ucm", root).captions) == 40


def test_captions_that_cannot_be_told_are_asked_for(raw, root: Path) -> None:
    folder = raw.images()
    with pytest.raises(DataError, match=r"holds no JSON file; name the captions with --captions"):
        prepare("ucm", root, source=folder)
    for name in ("a.json", "b.json"):
        (folder / name).write_text("{}")
    with pytest.raises(DataError, match=r"several JSON files \(a.json, b.json\)"):
        prepare("ucm", root, source=folder)
    with pytest.raises(DataError, match=r"--captions .*none.json: No such file"):
        prepare("ucm", root, source=folder, captions=folder / "none.json")


def test_rrsitr_and_official_splits_of_a_small_rsitmd(raw, root: Path) -> None:
    prepare("rsitmd", root, source=raw.tar(), captions=raw.json(), image_size=8)
    data = open_dataset("rsitmd", root)
    sizes = {s: {p: len(i) for p, i in of.items()} for s, of in data.splits.items()}
    assert sizes == {"rrsitr": {"train": 16, "val": 2, "test": 2}, "official": {"train": 18, "test": 2}}
    assert list(data.splits) == ["rrsitr", "official"] and data.classes == ("port",)


def test_packed_already_returns_at_once_and_overwrite_packs_again(raw, root: Path) -> None:
    first = prepare("sydney", root, source=raw.tar(), captions=raw.json(), image_size=8)
    again = prepare("sydney", root)
    assert (again.fingerprint, again.packed_now) == (first.fingerprint, False)
    with pytest.raises(DataError, match="packed at 8 px, --image-size is 9; add --overwrite"):
        prepare("sydney", root, image_size=9)
    other = prepare("sydney", root, source=raw.tar(), captions=raw.json(), image_size=9, overwrite=True)
    assert other.packed_now and other.fingerprint != first.fingerprint
    assert open_dataset("sydney", root).images.shape[1] == 9


def test_partial_data_are_refused_then_accepted_by_name(raw, root: Path) -> None:
    raw.files["port_3.png"] = b""
    del raw.files["port_9.png"]
    given = {"source": raw.tar(), "captions": raw.json(), "image_size": 8}
    with pytest.raises(DataError, match=r"1 of 20 images .*port_9.png \(not in raw.tar\)"):
        prepare("sydney", root, **given)
    assert not is_packed(root, "sydney")
    report = prepare("sydney", root, allow_partial=True, **given)
    assert report.missing == ("port_3.png", "port_9.png")
    assert len(open_dataset("sydney", root).filenames) == 18
    assert any(n.startswith("incomplete:") for n in report.notes)


def test_unreadable_image_is_refused_with_its_reason(raw, root: Path) -> None:
    raw.files["port_3.png"] = raw.files["port_3.png"][:60]
    with pytest.raises(DataError, match=r"1 of 20 images .*port_3.png \((truncated|not a readable image)\)"):
        prepare("sydney", root, source=raw.zip(), captions=raw.json(), image_size=8)
    assert os.listdir(root / "datasets") == [".sydney.lock"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ucm", "rsbench prepare ucm --source FOLDER_OR_ARCHIVE --captions FILE.json; no download is known"),
        ("rsicd", "download it: rsbench prepare rsicd, or give its files: rsbench prepare rsicd --source"),
        ("rsicd-2k", "download it: rsbench prepare rsicd, or give its files: rsbench prepare rsicd --source"),
    ],
)
def test_an_unprepared_dataset_names_the_ways_out(root: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(name, root)


def test_prepare_without_source_refuses_in_three_ways(root: Path) -> None:
    with pytest.raises(DataError, match="'ucm' has no known public download"):
        prepare("ucm", root)
    with pytest.raises(DataError, match="--no-download was given"):
        prepare("rsicd", root, download=False)
    with pytest.raises(DataError, match=r"RSBENCH_OFFLINE forbids the network; unset it .* or give its files"):
        prepare("rsicd", root)
    with pytest.raises(UnknownNameError, match="did you mean rsicd"):
        prepare("rsidc", root)
    with pytest.raises(DataError, match="--image-size is 0"):
        prepare("rsicd", root, image_size=0)


def test_last_prepared(raw, root: Path) -> None:
    assert last_prepared(root) is None
    prepare("sydney", root, source=raw.tar(), captions=raw.json(), image_size=8)
    assert last_prepared(root) == "sydney"
    (root / "last_prepared").write_text("gone")
    assert last_prepared(root) is None
    (root / "last_prepared").write_text("rsicd-2k")
    assert last_prepared(root) is None


def test_full_disk_leaves_no_half_store(raw, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    monkeypatch.setattr(store, "IMAGES", "/dev/full")
    with pytest.raises(DataError, match="disk full while packing 'sydney'"):
        prepare("sydney", root, source=raw.tar(), captions=raw.json(), image_size=8)
    assert os.listdir(root / "datasets") == [".sydney.lock"]


def test_root_that_cannot_be_written(raw, root: Path) -> None:
    root.write_text("a file")
    with pytest.raises(DataError, match=r"cannot write .*root.*give another --root"):
        prepare("sydney", root, source=raw.tar(), captions=raw.json())


def made(source: None, captions: None, card: DatasetCard, options: ReadOptions, progress: Progress) -> Parts:
    """A reader that needs no files."""
    assert source is captions is None
    images = np.zeros((2, options.image_size, options.image_size, 3), np.uint8)
    return Parts(card.name, images, ["a", "b"], ["x", "y"], [0, 1], [], [-1, -1], {"official": {"train": [1, 0]}})


def test_a_generated_dataset_is_made_on_first_use(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(sydney.CARD, generated=True, reader="test_data_lifecycle:made", image_size=5)
    monkeypatch.setattr(sydney, "CARD", card)
    assert open_dataset("sydney", root).images.shape == (2, 5, 5, 3)
    assert last_prepared(root) is None
    report = prepare("sydney", root)
    assert not report.packed_now and last_prepared(root) == "sydney" and report.t2i_bound == {}


def test_killed_midway_leaves_no_store_and_is_cleaned_up(raw, root: Path) -> None:
    given = {"source": raw.tar(), "captions": raw.json(), "image_size": 8}

    def die(what: str, done: int, total: int) -> None:
        if done == 11:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        prepare("sydney", root, progress=die, **given)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not is_packed(root, "sydney") and (root / "datasets" / ".sydney.tmp").is_dir()
    prepare("sydney", root, **given)
    assert sorted(os.listdir(root / "datasets")) == [".sydney.lock", "sydney"]


def test_killed_between_the_two_moves_of_an_overwrite_keeps_the_old_store(raw, root: Path) -> None:
    given = {"source": raw.tar(), "captions": raw.json(), "image_size": 8}
    first = prepare("sydney", root, **given)
    store_folder(root, "sydney").rename(root / "datasets" / ".sydney.old")
    assert prepare("sydney", root, source=root, captions=root).fingerprint == first.fingerprint


def test_two_at_once_pack_once(raw, root: Path) -> None:
    given = {"source": raw.tar(), "captions": raw.json(), "image_size": 8}
    packed: list[str] = []

    def count(what: str, done: int, total: int) -> None:
        if done == total:
            packed.append(what)

    threads = [
        threading.Thread(target=prepare, args=("sydney", root), kwargs={**given, "progress": count}) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(packed) == 1 and is_packed(root, "sydney")


def test_data_root_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSBENCH_DATA", str(tmp_path / "env"))
    assert data_root() == tmp_path / "env" and data_root(tmp_path / "x") == tmp_path / "x"
    monkeypatch.delenv("RSBENCH_DATA")
    assert data_root() == Path.home() / ".cache" / "rsbench"


def test_mini_rsicd(shared: Path, root: Path) -> None:
    report = prepare(
        "rsicd",
        root,
        source=shared / "images" / "rsicd_mini.tar",
        captions=shared / "captions" / "rsicd.json.gz",
        image_size=32,
        allow_partial=True,
    )
    data = open_dataset("rsicd", root)
    assert len(data.filenames) == 899 and len(report.missing) == 10_022 and len(data.classes) == 31
    assert {p: len(i) for p, i in data.splits["official"].items()} == {"train": 620, "val": 93, "test": 186}
    with pytest.raises(DataError, match=r"needs 2,000 train images, the packed 'rsicd' has \d+"):
        open_dataset("rsicd-2k", root)
