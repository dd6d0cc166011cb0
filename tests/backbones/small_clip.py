"""A two-layer CLIP that open_clip can build by name; not a test."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

NAME = "rsbench-test"
CONFIG = {
    "embed_dim": 8,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


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
