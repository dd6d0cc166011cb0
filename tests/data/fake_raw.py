"""Fake raw datasets: small pictures and caption files in the official layouts."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (12, 10), form: str = "png") -> bytes:
    """A random RGB picture as file content."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


def karpathy(count: int = 20, suffix: str = "png") -> dict:
    """Three quarters train, the rest val and test in turn; two captions each."""
    part = {0: "val", 4: "test"}
    return {
        "dataset": "fake",
        "images": [
            {
                "filename": f"port_{i}.{suffix}",
                "imgid": i,
                "split": part.get(i % 8, "train"),
                "sentences": [{"raw": f" ships in port {i} . ", "imgid": i}, {"raw": "a port .", "imgid": i}],
            }
            for i in range(count)
        ],
    }


class Raw:
    """Writes raw files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {f"port_{i}.png": picture(i) for i in range(20)}

    def json(self, data: object = None, name: str = "captions.json") -> Path:
        path = self.folder / name
        path.write_text(json.dumps(karpathy() if data is None else data))
        return path

    def images(self, below: str = "imgs/a") -> Path:
        root = self.folder / "raw"
        (root / below).mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (root / below / name).write_bytes(content)
        return root

    def tar(self, name: str = "raw.tar", prefix: str = "") -> Path:
        path = self.folder / name
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as archive:
            for member, content in self.files.items():
                info = tarfile.TarInfo(prefix + member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return path

    def zip(self, name: str = "raw.zip", prefix: str = "imgs/") -> Path:
        path = self.folder / name
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in self.files.items():
                archive.writestr(prefix + member, content)
        return path
