"""Inputs that are wrong in one way each, for ``test_bad_input.py``. Every function gets a folder to write into."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from rsbench.data.parts import Parts
from rsbench.data.store import write_store
from rsbench.experiment.spec import RunSpec
from rsbench.noise.index import NoiseSpec
from rsbench.training.recipe import Recipe

N_IMAGES, N_CAPTIONS, SIDE = 12, 2, 8
PARTS = {"train": range(8), "val": range(8, 10), "test": range(10, 12)}
TRAIN_PAIRS = 8 * N_CAPTIONS
NAMES = [f"port_{i}.png" for i in range(N_IMAGES)]


def pack_rsitmd(root: Path) -> None:
    """A packed dataset of 12 images that calls itself RSITMD."""
    rng = np.random.default_rng(0)
    folder = root / "datasets" / "rsitmd"
    folder.mkdir(parents=True)
    parts = Parts(
        name="rsitmd",
        images=list(rng.integers(0, 255, (N_IMAGES, SIDE, SIDE, 3), dtype=np.uint8)),
        filenames=NAMES,
        captions=[f"a port with {i} ships and {j} cranes" for i in range(N_IMAGES) for j in range(N_CAPTIONS)],
        caption_image=[i for i in range(N_IMAGES) for _ in range(N_CAPTIONS)],
        classes=["port"],
        image_class=[0] * N_IMAGES,
        splits={"rrsitr": {k: list(v) for k, v in PARTS.items()}, "official": {"train": [0, 1], "test": [2]}},
    )
    write_store(folder, parts)


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def images(folder: Path, count: int = 3) -> Path:
    """``count`` good pictures."""
    target = folder / "images"
    target.mkdir(exist_ok=True)
    for i in range(count):
        (target / NAMES[i]).write_bytes(picture(i))
    return target


def record(number: int, **changes: object) -> dict:
    """One image of a caption file in the plain form; a change to ``None`` drops the key."""
    split = ("train", "val", "test")[number % 3]
    row = {"filename": NAMES[number], "split": split, "captions": ["one port", "a port"], **changes}
    return {k: v for k, v in row.items() if v is not None}


def captions(*first: object, key: str = "images"):
    """Images and a caption file whose first rows are given; good rows fill up to three."""

    def write(tmp: Path) -> None:
        images(tmp)
        rows = [*first, *(record(i) for i in range(len(first), 3))]
        (tmp / "c.json").write_text(json.dumps({key: rows}))

    return write


def caption_bytes(content: bytes):
    """Images and a caption file of these bytes."""

    def write(tmp: Path) -> None:
        images(tmp)
        (tmp / "c.json").write_bytes(content)

    return write


def damaged_picture(content: bytes | None, count: int = 1):
    """Good captions; the first pictures have other bytes, or are absent where None."""

    def write(tmp: Path) -> None:
        captions()(tmp)
        for i in range(count):
            path = tmp / "images" / NAMES[i]
            path.write_bytes(content) if content is not None else path.unlink()

    return write


def twice(tmp: Path) -> None:
    captions()(tmp)
    (tmp / "images" / "again").mkdir()
    (tmp / "images" / "again" / NAMES[0]).write_bytes(picture(0))


def bytes_at(name: str, content: bytes):
    def write(tmp: Path) -> None:
        (tmp / name).write_bytes(content)

    return write


def zip_with(member: str, link: bool = False):
    def write(tmp: Path) -> None:
        caption_bytes(json.dumps({"images": [record(0)]}).encode())(tmp)
        with zipfile.ZipFile(tmp / "a.zip", "w") as archive:
            info = zipfile.ZipInfo(member)
            info.external_attr = (stat.S_IFLNK if link else stat.S_IFREG) << 16
            archive.writestr(info, "x")

    return write


def no_archive(tmp: Path) -> None:
    captions()(tmp)
    (tmp / "a.bin").write_bytes(b"hello")


def cut_zip(tmp: Path) -> None:
    zip_with(NAMES[0])(tmp)
    path = tmp / "a.zip"
    path.write_bytes(path.read_bytes()[:40])


def tar_with_pipe(tmp: Path) -> None:
    caption_bytes(json.dumps({"images": [record(0)]}).encode())(tmp)
    info = tarfile.TarInfo("pipe")
    info.type = tarfile.FIFOTYPE
    with tarfile.open(tmp / "a.tar", "w") as archive:
        archive.addfile(info)


def cut_targz(tmp: Path) -> None:
    captions()(tmp)
    with tarfile.open(tmp / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp / "images", "images")
    path = tmp / "a.tar.gz"
    path.write_bytes(path.read_bytes()[:-100])


def json_files(*names: str):
    def write(tmp: Path) -> None:
        images(tmp)
        for name in names:
            (tmp / "images" / name).write_text("{}")

    return write


def store_json(**changes: object):
    """The packed dataset with changed tables."""

    def write(tmp: Path) -> None:
        path = tmp / "data" / "datasets" / "rsitmd" / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return write


def store_text(content: str):
    return bytes_at("data/datasets/rsitmd/dataset.json", content.encode())


def array(values: object, dtype: str = "int64"):
    """A noise file."""

    def write(tmp: Path) -> None:
        np.save(tmp / "n.npy", np.asarray(values, dtype=dtype))

    return write


def pickled(tmp: Path) -> None:
    (tmp / "n.npy").write_bytes(pickle.dumps([1, 2, 3]))


def table(*lines: str):
    return bytes_at("n.csv", "\r\n".join(lines).encode())


def gz(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


METHOD = """
import dataclasses
from rsbench.methods.base import Loss, Method
from rsbench.methods.card import MethodCard

@dataclasses.dataclass(frozen=True)
class Params: ...

class Mine(Method):
    card = MethodCard("mine", "Mine", "none", "m.py:Mine", Params, (), needs=frozenset({%r}))
"""


def method_file(content: str):
    return bytes_at("m.py", content.encode())


def run_folder(name: str = "run", **files: object):
    """A folder under ``results/`` with these JSON files."""

    def write(tmp: Path) -> None:
        folder = tmp / "results" / name
        folder.mkdir(parents=True)
        for stem, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / f"{stem}.json").write_text(text)

    return write


def failed_result(**changes: object):
    """A results folder with one failed run."""
    noise, recipe = NoiseSpec(rate=0.4), Recipe()
    spec = RunSpec("toy", "official", noise, "toy", "heads", "bundled", "srem", "full", recipe, seed=0).as_dict()
    content = {"schema": 1, "hash": "0" * 16, "status": "failed", "error": "x", "spec": spec}
    return run_folder(result=content | changes)
