from __future__ import annotations

import hashlib
import importlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from fake_raw import karpathy
from fake_server import Server

from rsbench.data.card import Asset, DatasetCard
from rsbench.data.download import HUB_OFFLINE, OFFLINE, download
from rsbench.data.lifecycle import open_dataset, prepare
from rsbench.data.sets import sydney
from rsbench.errors import DownloadError
from rsbench.registry import DATASETS

ZIP = b"PK\x03\x04" + bytes(range(256)) * 4_000


def test_a_checked_file_is_kept_and_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    asset = server.asset("a.zip", ZIP, size=len(ZIP), sha256=hashlib.sha256(ZIP).hexdigest())
    seen: list[tuple[int, int]] = []
    path = download(asset, tmp_path / "d", "or", lambda what, done, total: seen.append((done, total)))
    assert path.read_bytes() == ZIP and seen[-1] == (len(ZIP), len(ZIP))
    assert seen == sorted(seen) and len(seen) > 2
    assert download(asset, tmp_path / "d", "or") == path and len(server.ranges) == 1


def test_a_broken_transfer_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.break_after = [300_000, 400_000]
    path = download(server.asset("a.zip", ZIP, size=len(ZIP)), tmp_path, "or")
    assert path.read_bytes() == ZIP
    assert server.ranges[0] is None and len(server.ranges) == 3
    assert all(r.startswith("bytes=") and int(r[6:-1]) > 0 for r in server.ranges[1:])


def test_a_part_of_an_earlier_process_is_resumed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(ZIP[:1_000])
    assert download(server.asset("a.zip", ZIP), tmp_path, "or").read_bytes() == ZIP
    assert server.ranges == ["bytes=1000-"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ignore_range = True
    (tmp_path / "a.zip.part").write_bytes(b"junk")
    assert download(server.asset("a.zip", ZIP), tmp_path, "or").read_bytes() == ZIP


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(ZIP + b"more")
    assert download(server.asset("a.zip", ZIP), tmp_path, "or").read_bytes() == ZIP


def test_giving_up_keeps_the_part_and_says_so(server: Server, tmp_path: Path) -> None:
    server.break_after = [1_000, 1_000, 1_000]
    with pytest.raises(DownloadError, match=r"after 3,000 bytes, which are kept.*; try again, or walk"):
        download(server.asset("a.zip", ZIP), tmp_path, "walk")
    assert (tmp_path / "a.zip.part").stat().st_size == 3_000 and not (tmp_path / "a.zip").exists()
    assert download(server.asset("a.zip"), tmp_path, "walk").read_bytes() == ZIP


@pytest.mark.parametrize(
    ("name", "content", "facts", "message"),
    [
        ("a.zip", b"<!DOCTYPE html><html>log in</html>", {}, "web page instead of a.zip"),
        ("a.tar.gz", b"\n <HTML>", {}, "web page instead of a.tar.gz"),
        ("a.zip", b"version https://git-lfs.github.com/spec/v1\n", {}, "Git-LFS pointer instead of a.zip"),
        ("a.zip", ZIP, {"size": 5}, "has 1,024,004 bytes, expected 5"),
        ("a.zip", ZIP, {"sha256": "0" * 64}, "another sha256"),
        ("a.zip", b"Rar!", {}, "does not begin like a .zip file"),
        ("a.tar.gz", ZIP, {}, "does not begin like a .gz file"),
        ("a.tar", ZIP, {}, "does not begin like a .tar file"),
        ("a.json", b"hello", {}, "does not begin like a JSON file"),
    ],
)
def test_wrong_content_never_counts_as_there(
    server: Server, tmp_path: Path, name: str, content: bytes, facts: dict, message: str
) -> None:
    with pytest.raises(DownloadError, match=f"{message}.*; walk"):
        download(server.asset(name, content, **facts), tmp_path, "walk")
    assert not [p for p in tmp_path.iterdir() if not p.name.endswith(".lock")]


def test_server_errors_and_silence_are_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"the server answers 404 .*; try again, or walk"):
        download(server.asset("a.zip"), tmp_path, "walk")
    gone = replace(server.asset("a.zip"), url="http://127.0.0.1:9/a.zip")
    with pytest.raises(DownloadError, match=r"cannot be fetched .*; try again, or walk"):
        download(gone, tmp_path, "walk")


def test_offline_is_told_unless_the_file_is_there(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OFFLINE, "1")
    asset = server.asset("a.zip", ZIP)
    with pytest.raises(DownloadError, match=r"a.zip is not here and RSBENCH_OFFLINE forbids.*, or walk"):
        download(asset, tmp_path, "walk")
    assert not server.ranges
    (tmp_path / "a.zip").write_bytes(ZIP)
    assert download(asset, tmp_path, "walk").read_bytes() == ZIP


def test_prepare_downloads_images_and_captions(
    server: Server, raw, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = (
        server.asset("images.zip", raw.zip().read_bytes()),
        server.asset("dataset.json", json.dumps(karpathy()).encode()),
    )
    monkeypatch.setattr(sydney, "CARD", replace(sydney.CARD, assets=assets, image_size=8))
    assert prepare("sydney", root).packed_now
    assert len(open_dataset("sydney", root).filenames) == 20
    assert len(server.ranges) == 2
    prepare("sydney", root, overwrite=True)
    assert len(server.ranges) == 2


def test_a_download_with_its_captions_inside(server: Server, raw, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO(raw.zip().read_bytes())
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("x/dataset.json", json.dumps(karpathy()))
    monkeypatch.setattr(
        sydney, "CARD", replace(sydney.CARD, assets=(server.asset("s.zip", out.getvalue()),), image_size=8)
    )
    assert prepare("sydney", root).splits["official"]["train"].images == 15


def hub_asset(server: Server, content: bytes | None, name: str = "a.zip") -> Asset:
    asset = Asset.hub_file("owner/set", name)
    if content is not None:
        server.files[f"datasets/owner/set/resolve/main/{name}"] = content
    return asset


@pytest.mark.parametrize("bars", [True, False], ids=["its bars on", "its bars off"])
def test_a_hub_file_is_fetched_checked_and_kept(server: Server, tmp_path: Path, bars: bool) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    (enable_progress_bars if bars else disable_progress_bars)()
    try:
        fetched_once(server, tmp_path)
    finally:
        (disable_progress_bars if before else enable_progress_bars)()


def fetched_once(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    asset = hub_asset(server, ZIP)
    path = download(asset, tmp_path / "d", "or", lambda *report: seen.append(report))
    assert path == tmp_path / "d" / "a.zip" and path.read_bytes() == ZIP
    assert seen[-1] == ("downloading a.zip", len(ZIP), len(ZIP))
    asked = len(server.asked)
    assert download(asset, tmp_path / "d", "or") == path and len(server.asked) == asked


def test_hub_faults_are_told(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DownloadError, match=r"resolve/main/a.zip: cannot be fetched .*; try again, or walk"):
        download(hub_asset(server, None), tmp_path, "walk")
    with pytest.raises(DownloadError, match=r"web page instead of a.zip.*; walk"):
        download(hub_asset(server, b"<html>sign in</html>"), tmp_path, "walk")
    server.errors["GatedRepo"] = 403
    with pytest.raises(
        DownloadError, match=r"wants a login; accept its terms at https://huggingface.co/datasets/owner/"
    ):
        download(hub_asset(server, ZIP), tmp_path, "walk")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client tries five times more
    with pytest.raises(DownloadError, match="the hub does not answer; try again, or walk"):
        download(hub_asset(server, ZIP), tmp_path, "walk")
    assert not [p for p in tmp_path.iterdir() if not p.name.startswith(".")]


@pytest.mark.parametrize("flag", [OFFLINE, HUB_OFFLINE])
@pytest.mark.parametrize("hub", [False, True])
def test_both_flags_forbid_both_ways(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, hub: bool
) -> None:
    monkeypatch.setenv(flag, "1")
    asset = hub_asset(server, ZIP) if hub else server.asset("a.zip", ZIP)
    with pytest.raises(DownloadError, match=f"{flag} forbids the network; unset it and try again, or walk"):
        download(asset, tmp_path, "walk")
    assert not server.asked


def _stand_in(raw, card: DatasetCard, name: str, first: bool) -> bytes:
    """What a file of a card could hold: captions, or an archive with captions where the card has no file for them."""
    captions = json.dumps(karpathy()).encode()
    if name.endswith(".json"):
        return captions
    pictures = dict(raw.files)
    raw.files = pictures if first else {"empty.txt": b"."}
    if name == "caption_datasets.zip" or not any(n.filename.startswith(("dataset", "caption")) for n in card.assets):
        raw.files = {**raw.files, f"dataset_{card.name}.json": captions}
    content = (raw.tar("made.tar.gz") if name.endswith("gz") else raw.zip("made.zip")).read_bytes()
    raw.files = pictures
    return content


DOWNLOADED = [n for n in DATASETS.names() if n not in ("rs5m",) and DATASETS.load(n).assets]


@pytest.mark.parametrize("name", DOWNLOADED)
def test_every_download_of_a_card_from_a_local_server(
    server: Server, raw, root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module, _, attribute = DATASETS.entry(name).target.partition(":")
    card: DatasetCard = DATASETS.load(name)
    local = []
    for i, asset in enumerate(card.assets):
        assert asset.url.startswith(("https://", "http://images.cocodataset.org/")) and asset.url.endswith(
            asset.filename
        )
        content = _stand_in(raw, card, asset.filename, first=i == 0)
        if asset.hub:
            server.files[asset.url.removeprefix("https://huggingface.co/")] = content
            local.append(asset)
        else:
            local.append(server.asset(asset.filename, content))
    monkeypatch.setattr(importlib.import_module(module), attribute, replace(card, assets=tuple(local), image_size=8))
    prepare(name, root)
    assert len(open_dataset(name, root).filenames) == 20
    monkeypatch.setenv(OFFLINE, "1")
    assert prepare(name, root, overwrite=True).packed_now


def test_the_downloads_are_those_we_know() -> None:
    assert DOWNLOADED == ["rsicd", "rsitmd", "nwpu", "sydney", "flickr30k", "coco"]
