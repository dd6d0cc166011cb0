"""Small models of open_clip, built by name; not a test."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAME = "rsbench-test"
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
CONFIG = {
    "embed_dim": 8,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": TEXT,
}

CHECKPOINTS = {
    "clip-vit-b32": 64,
    "clip-vit-l14": 42,
    "clip-rn50": 64,
    "georsclip-vit-b32": 64,
    "georsclip-vit-b32-ret2": 64,
    "remoteclip-rn50": 64,
    "remoteclip-vit-b32": 64,
    "remoteclip-vit-l14": 42,
}
"""Registered checkpoints, and the side of images that their small twins read."""


def register() -> None:
    """Add it, and a twin with plain GELU and another width, to open_clip's models."""
    from rsbench.backbones.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    import open_clip

    folder = Path(tempfile.mkdtemp())
    other = json.loads(json.dumps(CONFIG)) | {"quick_gelu": False, "embed_dim": 16}
    for name, config in ((NAME, CONFIG), (f"{NAME}-wide", other)):
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


@contextmanager
def shrunk() -> Iterator[None]:
    """Within it, open_clip builds the architectures of our checkpoints with few and thin layers.

    Kind of tower, patch size, activation and all names of the state dict stay as they are, up to the layer's number.
    """
    from rsbench.backbones.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    from open_clip import factory

    with pytest.MonkeyPatch.context() as patch:
        for name in ("ViT-B-32-quickgelu", "ViT-L-14-quickgelu", "RN50-quickgelu"):
            patch.setitem(factory._MODEL_CONFIGS, name, _small(factory._MODEL_CONFIGS[name]))
        yield


def _small(config: dict[str, Any]) -> dict[str, Any]:
    vision = dict(config["vision_cfg"])
    if isinstance(vision["layers"], list):
        vision |= {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}
    else:
        side = 2 if vision["patch_size"] == 32 else 3
        vision |= {"layers": 2, "width": 64, "head_width": 32, "image_size": side * vision["patch_size"]}
    return config | {"embed_dim": 8, "vision_cfg": vision, "text_cfg": TEXT}
