from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from rsbench.backbones.pixels import as_tensor
from rsbench.cli.app import main
from rsbench.data.dataset import Dataset
from rsbench.data.lifecycle import open_dataset, prepare, store_folder
from rsbench.errors import DataError, RsbenchError

R, W = 3, 4
SIZES = {"train": 6, "dev": 2, "test": 2}


def features(images: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng([seed, images]).normal(size=(images, R, W)).astype(dtype)


def package(folder: Path, per: int = 5, copies: int = 1, dtype: str = "float32", tsv: bool = False) -> Path:
    folder.mkdir(parents=True)
    for seed, (split, images) in enumerate(SIZES.items()):
        np.save(folder / f"{split}_ims.npy", np.repeat(features(images, seed, dtype), copies, axis=0))
        lines = [f"{split} image {i} text {k}" for i in range(images) for k in range(per)]
        if tsv:
            lines = [f"id{n}\t{line}" for n, line in enumerate(lines)]
        (folder / f"{split}_caps.{'tsv' if tsv else 'txt'}").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("copies", [1, 5])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_a_package_is_packed_whatever_its_rows(root: Path, tmp_path: Path, copies: int, dtype: str) -> None:
    source = package(tmp_path / "f30k_precomp", copies=copies, dtype=dtype)
    report = prepare("flickr30k", root, source=source)
    data = open_dataset("flickr30k", root)
    want = np.concatenate([features(n, seed, dtype) for seed, n in enumerate(SIZES.values())])
    assert isinstance(data.regions, np.memmap) and data.regions.dtype == (
        "float16" if dtype == "float16" else "float32"
    )
    assert np.array_equal(data.regions, want.astype(data.regions.dtype))
    assert (report.image_size, report.regions) == (None, (R, W))
    for caption, image in zip(data.captions, data.caption_image, strict=True):
        split, _, number, *_ = caption.split()
        offset = {"train": 0, "dev": 6, "test": 8}[split]
        assert image == offset + int(number)
    assert {p: i.tolist() for p, i in data.splits["official"].items()} == {
        "train": [0, 1, 2, 3, 4, 5],
        "val": [6, 7],
        "test": [8, 9],
    }
    assert any("official noise files do not fit" in n for n in report.notes)


def test_one_package_of_an_archive_of_several(root: Path, tmp_path: Path) -> None:
    package(tmp_path / "data" / "f30k_precomp")
    package(tmp_path / "data" / "cc152k_precomp", per=1, tsv=True)
    with tarfile.open(tmp_path / "NCR-data.tar", "w") as archive:
        archive.add(tmp_path / "data", "data")
    plain = prepare("flickr30k", root / "a", source=tmp_path / "data" / "f30k_precomp").fingerprint
    assert prepare("flickr30k", root, source=tmp_path / "NCR-data.tar").fingerprint == plain
    prepare("cc152k", root, source=tmp_path / "NCR-data.tar")
    data = open_dataset("cc152k", root)
    assert data.captions[0] == "train image 0 text 0" and data.caption_image.tolist() == list(range(10))


def test_coco_takes_testall_and_the_first_thousand_of_dev(root: Path, tmp_path: Path) -> None:
    source = package(tmp_path / "coco_precomp")
    np.save(source / "dev_ims.npy", features(1_003))
    (source / "dev_caps.txt").write_text("".join(f"dev {i}\n" for i in range(5_015)))
    np.save(source / "testall_ims.npy", features(4))
    (source / "testall_caps.txt").write_text("".join(f"all {i}\n" for i in range(20)))
    prepare("coco", root, source=source)
    data = open_dataset("coco", root)
    assert {p: len(i) for p, i in data.splits["official"].items()} == {"train": 6, "val": 1_000, "test": 4}
    assert np.array_equal(data.regions[6:1_006], features(1_003)[:1_000])
    assert data.captions[30 + 5_000] == "all 0"


def _replace(path: Path, array: np.ndarray) -> None:
    np.save(path, array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: _replace(f / "dev_ims.npy", features(3)),
            "dev_ims.npy holds 3 images and .*10 captions; expected 5",
        ),
        (lambda f: _replace(f / "dev_ims.npy", features(2)[0]), r"float32 \[3, 4\], expected float \[images, regions"),
        (lambda f: _replace(f / "dev_ims.npy", features(2).astype(int)), r"int64 \[2, 3, 4\], expected float"),
        (lambda f: _replace(f / "dev_ims.npy", np.asfortranarray(features(2))), "in Fortran order"),
        (lambda f: np.save(f / "dev_ims.npy", np.array([{}], object)), r"object \[1\], expected float"),
        (lambda f: _replace(f / "dev_ims.npy", features(10)), "the 5 rows of image 0 differ"),
        (
            lambda f: _replace(f / "test_ims.npy", features(2)[:, :2]),
            r"row 8 is float32 \[2, 4\], expected float32 \[3",
        ),
        (
            lambda f: _replace(f / "test_ims.npy", features(2) * np.nan),
            "regions of image 8 hold values that are not fin",
        ),
        (lambda f: (f / "dev_ims.npy").write_bytes(b"<!doctype html><html>"), "is no whole .npy file"),
        (
            lambda f: (f / "dev_ims.npy").write_bytes((f / "dev_ims.npy").read_bytes()[:-1]),
            "ends inside image 1: it is tr",
        ),
        (lambda f: (f / "dev_ims.npy").unlink(), "has no dev_ims.npy or val_ims.npy; a region package has"),
        (lambda f: (f / "dev_caps.txt").unlink(), "has no dev_caps.txt or dev_caps.tsv"),
        (lambda f: (f / "dev_caps.txt").write_text("a\n" * 4 + "\n" + "a\n" * 5), "line 5 holds an empty caption"),
        (lambda f: (f / "dev_caps.txt").write_bytes(b"a\n\xff\n"), "line 2 is not UTF-8"),
    ],
)
def test_bad_packages_say_which_file_and_what(root: Path, tmp_path: Path, damage, message: str) -> None:
    source = package(tmp_path / "f30k_precomp")
    damage(source)
    with pytest.raises(DataError, match=message):
        prepare("flickr30k", root, source=source)
    assert not store_folder(root, "flickr30k").exists()


def test_a_tsv_without_tab(root: Path, tmp_path: Path) -> None:
    source = package(tmp_path / "cc152k_precomp", per=1, tsv=True)
    (source / "dev_caps.tsv").write_text("id caption\n")
    with pytest.raises(DataError, match=r"dev_caps.tsv: line 1 has one column"):
        prepare("cc152k", root, source=source)


@pytest.fixture
def data(root: Path, tmp_path: Path) -> Dataset:
    prepare("flickr30k", root, source=package(tmp_path / "f30k_precomp"))
    return open_dataset("flickr30k", root)


@pytest.mark.parametrize("use", [lambda x: x.shape, lambda x: x[0], len, list, np.asarray, as_tensor])
def test_whoever_reads_pixels_is_told_what_to_type(data: Dataset, use) -> None:
    with pytest.raises(DataError, match=r"has no pixels; use --backbone regions, or pack its images: rsbench prepare"):
        use(data.images)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: _replace(f / "regions.npy", features(9)),
            r"regions.npy is float32 \[9, 3, 4\], expected .*\[10, 3, 4\]",
        ),
        (lambda f: _replace(f / "regions.npy", features(10).astype("float64")), "regions.npy is float64"),
        (lambda f: np.save(f / "regions.npy", np.array([{}], object)), "is damaged"),
        (lambda f: (f / "regions.npy").unlink(), "is damaged"),
    ],
)
def test_damaged_region_stores(data: Dataset, root: Path, damage, message: str) -> None:
    folder = store_folder(root, "flickr30k")
    damage(folder)
    with pytest.raises(DataError, match=message):
        open_dataset("flickr30k", root)


def test_the_fingerprint_follows_the_regions(root: Path, tmp_path: Path) -> None:
    first = prepare("flickr30k", root / "a", source=package(tmp_path / "a" / "f30k_precomp")).fingerprint
    source = package(tmp_path / "b" / "f30k_precomp")
    changed = features(2, 1)
    changed[0, 0, 0] += 1
    np.save(source / "dev_ims.npy", changed)
    assert prepare("flickr30k", root / "b", source=source).fingerprint != first


@pytest.mark.parametrize("per_image", [False, True])
def test_noise_files_of_the_field_are_imported(
    data: Dataset, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], per_image: bool
) -> None:
    values = (
        np.array([1, 0, 2, 3, 4, 5]) if per_image else np.array([1, *[0] * 4, 0, *[1] * 4, *np.repeat([2, 3, 4, 5], 5)])
    )
    np.save(tmp_path / "noise_inx_0.2.npy", values)
    words = ["noise", "flickr30k", "--import", str(tmp_path / "noise_inx_0.2.npy"), "--root", str(root), "--json"]
    assert main(words) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["unit"] == ("image" if per_image else "caption")
    assert facts["rate"] == pytest.approx(round((10 if per_image else 2) / 30, 4))


def test_karpathy_pictures_keep_five_captions_and_restval(raw, root: Path) -> None:
    sentences = [{"raw": f"text {k}"} for k in range(7)]
    parts = ["train", "restval", "val", "test"]
    images = [
        {"filename": f"port_{i}.png", "filepath": "val2014", "split": parts[i % 4], "sentences": sentences}
        for i in range(20)
    ]
    prepare("coco", root, source=raw.zip(), captions=raw.json({"images": images}), image_size=8)
    data = open_dataset("coco", root)
    assert data.regions is None and data.images.shape == (20, 8, 8, 3) and len(data.captions) == 100
    assert {p: len(i) for p, i in data.splits["official"].items()} == {"train": 10, "val": 5, "test": 5}


def test_a_folder_of_archives_is_one_source(raw, root: Path) -> None:
    folder = raw.folder / "downloads"
    folder.mkdir()
    every = dict(raw.files)
    for name, keep in (("train2014.zip", 12), ("val2014.zip", 20)):
        raw.files = dict(list(every.items())[keep - 12 if keep == 12 else 12 : keep])
        raw.zip().rename(folder / name)
    raw.files = {n: json.dumps({"images": []}).encode() for n in ("dataset_flickr30k.json", "dataset_flickr8k.json")}
    records = [{"filename": n, "split": "train", "captions": [n]} for n in every]
    raw.files["dataset_coco.json"] = json.dumps({"images": records}).encode()
    raw.zip().rename(folder / "caption_datasets.zip")
    prepare("coco", root, source=folder, image_size=8)
    assert open_dataset("coco", root).filenames == tuple(every)


def test_pixels_and_regions_are_told_apart_in_the_report(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = package(tmp_path / "f30k_precomp")
    assert main(["prepare", "flickr30k", "--root", str(root), "--source", str(source)]) == 0
    assert "3 regions of 4 values each" in capsys.readouterr().out
    with pytest.raises(RsbenchError, match="leave it out"):
        prepare("flickr30k", root, source=source, captions=tmp_path, overwrite=True)
