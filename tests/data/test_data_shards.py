from __future__ import annotations

import hashlib
import io
import json
import math
import os
import random
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
from fake_raw import picture
from fake_server import Server

from rsbench.cli.app import main
from rsbench.data.download import OFFLINE
from rsbench.data.images import decode
from rsbench.data.lifecycle import is_packed, open_dataset, prepare
from rsbench.data.shards import Shard, addressed_shards, local_shards, read_samples
from rsbench.errors import DataError, DownloadError, UsageError

Fields = dict[str, bytes]


def shard(samples: dict[str, Fields]) -> bytes:
    """A tar file of samples; keys may hold folders."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for key, fields in samples.items():
            for field, content in fields.items():
                info = tarfile.TarInfo(f"{key}.{field}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def pair(seed: int, **changes: bytes) -> Fields:
    text = f"scene {seed}".encode()
    return {"img_content": picture(seed), "img_name": b"x.png", "caption": text, **changes}


def good(name: str, count: int = 10) -> dict[str, Fields]:
    base = int(name[-1]) * 100
    return {f"{name}_{i:03d}": pair(base + i) for i in range(count)}


NAMES = ("pub11-train-0000", "pub11-train-0001", "rs3-train-0002")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "shards" / "train"
    path.mkdir(parents=True)
    for name in NAMES:
        (path / f"{name}.tar").write_bytes(shard(good(name)))
    return path.parent


def seeded(names: tuple[str, ...]) -> list[str]:
    """The order of shards, in plain words: the names sorted, then shuffled by the seed named shards, 0."""
    seed = int.from_bytes(hashlib.sha256(b"shards\x1f0").digest()[:8], "little") >> 1
    order = sorted(names)
    random.Random(seed).shuffle(order)
    return order


def test_the_rule_of_the_subset(folder: Path, root: Path) -> None:
    report = prepare("rs5m", root, source=folder, samples=7, image_size=8)
    data = open_dataset("rs5m", root)
    want = [f"{name}/{name}_{i:03d}" for name in seeded(NAMES) for i in range(math.ceil(7 / 3))][:7]
    assert list(data.filenames) == want
    for image, caption, name in zip(data.images, data.captions, want, strict=True):
        seed = int(name.split("/")[0][-1]) * 100 + int(name[-3:])
        assert caption == f"scene {seed}" and np.array_equal(image, decode(picture(seed), 8))
    assert sorted(i for ids in data.splits["own"].values() for i in ids) == list(range(7))
    assert any(n.startswith("subset: the first 3 valid samples of each of 3 shards") for n in report.notes)
    assert not (root / "downloads" / "rs5m.shards").exists()


def test_more_shards_than_samples(folder: Path, root: Path) -> None:
    (folder / "train" / "pub11-train-0009.tar").write_bytes(shard(good("pub11-train-0009")))
    prepare("rs5m", root, source=folder, samples=3, image_size=8)
    order = seeded((*NAMES, "pub11-train-0009"))
    assert open_dataset("rs5m", root).filenames == tuple(f"{n}/{n}_000" for n in order[:3])


BROKEN = [
    ({"img_content": b""}, "empty file"),
    ({"img_content": picture(0)[:50]}, "truncated|not a readable image"),
    ({"caption": b"  "}, "its caption is empty"),
    ({"caption": b"\xff"}, "its caption is not UTF-8"),
    ({"caption": None}, "has no caption"),
    ({"img_content": None}, "has no picture"),
]


@pytest.mark.parametrize(("change", "reason"), BROKEN)
def test_a_broken_sample_is_counted_and_the_next_one_taken(folder: Path, root: Path, change: dict, reason: str) -> None:
    name = NAMES[1]
    samples = good(name)
    fields = {**samples[f"{name}_001"], **change}
    samples[f"{name}_001"] = {k: v for k, v in fields.items() if v is not None}
    (folder / "train" / f"{name}.tar").write_bytes(shard(samples))
    report = prepare("rs5m", root, source=folder, samples=9, image_size=8)
    kept = [f for f in open_dataset("rs5m", root).filenames if f.startswith(name)]
    assert kept == [f"{name}/{name}_{i:03d}" for i in (0, 2, 3)]
    note = next(n for n in report.notes if "broken" in n)
    assert note.startswith(f"1 broken samples were skipped, first {name}/{name}_001: ")
    assert any(part in note for part in reason.split("|"))


def test_too_many_broken_samples_are_refused_then_accepted(folder: Path, root: Path) -> None:
    name = NAMES[0]
    samples = {k: (pair(i) if i % 2 else {"caption": b"x"}) for i, k in enumerate(good(name))}
    (folder / "train" / f"{name}.tar").write_bytes(shard(samples))
    with pytest.raises(DataError, match=rf"{name}.tar: \d of \d samples are broken, more than the 5% we skip; first"):
        prepare("rs5m", root, source=folder, samples=12, image_size=8)
    assert not is_packed(root, "rs5m")
    prepare("rs5m", root, source=folder, samples=12, image_size=8, allow_partial=True)
    assert len(open_dataset("rs5m", root).filenames) == 12


def test_a_truncated_shard_keeps_what_comes_before(folder: Path, root: Path) -> None:
    path = folder / "train" / f"{NAMES[2]}.tar"
    path.write_bytes(path.read_bytes()[:10_000])
    report = prepare("rs5m", root, source=folder, samples=30, image_size=8)
    kept = sum(f.startswith(NAMES[2]) for f in open_dataset("rs5m", root).filenames)
    assert 0 < kept < 10 and any("truncated" in n for n in report.notes)


def test_keys_with_folders_and_keys_that_come_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    one, two = shard({"d.x/k1": pair(1), "d.x/k2": pair(2)}), shard({"d.x/k1": pair(3)})
    path.write_bytes(one.rstrip(b"\0").ljust(math.ceil(len(one.rstrip(b"\0")) / 512) * 512, b"\0") + two)
    found = [(s.key, s.caption, s.fault) for s in read_samples(Shard(str(path)))]
    assert found == [("d.x/k1", "scene 1", ""), ("d.x/k2", "scene 2", ""), ("d.x/k1", "", "key occurs twice")]


def test_jpg_and_txt_will_do_and_links_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("k.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for field, content in (("JPG", picture(1, form="jpeg")), ("txt", b" two\nlines ")):
            info = tarfile.TarInfo(f"../k.{field}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert [(s.key, s.caption, s.fault) for s in read_samples(Shard(str(path)))] == [("../k", "two lines", "")]


@pytest.mark.parametrize("content", [b"", b"<!doctype html><html>sign in</html>", picture(0)])
def test_a_shard_that_is_no_tar(folder: Path, root: Path, content: bytes) -> None:
    (folder / "train" / f"{NAMES[0]}.tar").write_bytes(content)
    with pytest.raises(DataError, match=rf"shard .*{NAMES[0]}.tar is no tar file"):
        prepare("rs5m", root, source=folder, samples=9, image_size=8)


def test_a_killed_run_goes_on_after_its_finished_shards(folder: Path, root: Path) -> None:
    def die(what: str, done: int, total: int) -> None:
        if what == "reading shards" and done >= 8:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        prepare("rs5m", root, source=folder, samples=12, image_size=8, progress=die)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    done = seeded(NAMES)[0]
    (folder / "train" / f"{done}.tar").write_bytes(b"not read again")
    prepare("rs5m", root, source=folder, samples=12, image_size=8)
    assert len(open_dataset("rs5m", root).filenames) == 12


def _serve(server: Server, folder: Path, below: str = "") -> str:
    for path in folder.rglob("*.tar"):
        server.files[f"{below}{path.name}"] = path.read_bytes()
    return f"http://127.0.0.1:{server.server_port}/{below}"


def test_remote_shards_give_the_same_subset_as_local_ones(folder: Path, root: Path, server: Server) -> None:
    local = prepare("rs5m", root / "a", source=folder, samples=9, image_size=8).fingerprint
    address = _serve(server, folder) + "{pub11-train-0000,pub11-train-0001,rs3-train-0002}.tar"
    assert prepare("rs5m", root / "b", source=address, samples=9, image_size=8).fingerprint == local


def test_the_hub_is_asked_where_no_source_is_given(folder: Path, root: Path, server: Server) -> None:
    local = prepare("rs5m", root / "a", source=folder, samples=9, image_size=8).fingerprint
    _serve(server, folder, "datasets/omlab/RS5M/resolve/main/train/")
    files = [{"type": "file", "path": f"{d}/{n}.tar", "size": 1, "oid": "0"} for n in NAMES for d in ("train", "val")]
    server.files["api/datasets/omlab/RS5M/tree/main"] = json.dumps(files).encode()
    assert prepare("rs5m", root / "b", samples=9, image_size=8).fingerprint == local
    with pytest.raises(DownloadError, match=r"omlab/RS5M cannot be listed .*--source FOLDER_OF_TARS"):
        server.files.clear()
        prepare("rs5m", root / "c", samples=9)


def test_a_broken_connection_is_tried_again_then_told(folder: Path, root: Path, server: Server) -> None:
    address = _serve(server, folder) + "{pub11-train-0000,pub11-train-0001}.tar"
    server.break_after = [5_000]
    prepare("rs5m", root / "a", source=address, samples=20, image_size=8)
    assert len(open_dataset("rs5m", root / "a").filenames) == 20 and len(server.ranges) == 3
    server.break_after = [5_000] * 3
    with pytest.raises(DownloadError, match=r"cannot be read .*bytes before the end\); finished shards are kept"):
        prepare("rs5m", root / "b", source=address, samples=20, image_size=8)
    with pytest.raises(DownloadError, match="the server answers 404"):
        prepare("rs5m", root / "b", source=address.replace("pub11-train-0000", "gone"), samples=20)


def test_offline_and_no_download(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"--no-download was given; .*rsbench prepare rs5m --source FOLDER_OF_TARS"):
        prepare("rs5m", root, download=False)
    monkeypatch.setenv(OFFLINE, "1")
    for source in (None, "https://host/a-{0..3}.tar"):
        with pytest.raises(DownloadError, match=r"RSBENCH_OFFLINE forbids the network; unset it.*--source FOLDER_OF_T"):
            prepare("rs5m", root, source=source)


def test_sources_that_hold_no_shards(folder: Path, root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no shards; give a folder of .tar files"):
        local_shards(tmp_path / "nothing")
    for address in ("ftp://x/a.tar", "https://host/a.zip", "https://host/"):
        with pytest.raises(DataError, match=r"give http\(s\) addresses of .tar shards"):
            addressed_shards(address)
    (folder / "b").mkdir()
    (folder / "b" / f"{NAMES[0]}.tar").write_bytes(b"")
    with pytest.raises(DataError, match="two shards have one name"):
        prepare("rs5m", root, source=folder)
    with pytest.raises(DataError, match="--captions does not go with 'rs5m'"):
        prepare("rs5m", root, source=folder, captions=tmp_path)
    with pytest.raises(DataError, match="--samples is 0"):
        prepare("rs5m", root, source=folder, samples=0)
    with pytest.raises(
        UsageError, match=r"--samples is for datasets read from shards \(rs5m\), 'ucm' takes local files"
    ):
        prepare("ucm", root, samples=3)


def test_braces() -> None:
    assert [s.where for s in addressed_shards("https://h/{b,a}-{08..10}.tar")] == [
        f"https://h/{letter}-{n}.tar" for letter in "ab" for n in ("08", "09", "10")
    ]


def test_the_command(folder: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "rs5m", "--root", str(root), "--source", str(folder), "--image-size", "8"]
    assert main([*words, "--samples", "9"]) == 0 and "split own: drawn by rsbench" in capsys.readouterr().out
    assert main([*words, "--samples", "10"]) == 2
    assert "packed with --samples 9, not 10; add --overwrite" in capsys.readouterr().err
