"""Makes ``import torchvision`` work beside a torch of another build family.

open_clip and timm import torchvision, and torchvision describes its own operators ``nms`` and ``qnms`` at import.
A CPU build of torch cannot load the compiled operators of a CUDA build of torchvision, and the import stops with
"operator torchvision::nms does not exist". Retrieval models use neither operator, so their schemas alone are enough.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@functools.cache
def declare_missing_operators() -> torch.library.Library | None:
    """Declare the two schemas where torchvision is installed and its compiled operators cannot be loaded.

    Call it before the first import of open_clip, timm or torchvision.

    Returns:
        The library that holds the declarations (kept alive by the cache), or None where nothing had to be done.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _loads(Path(spec.origin).parent):
        return None
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


def _loads(folder: Path) -> bool:
    """Whether the compiled operators of torchvision are registered after trying to load them."""
    for path in (*folder.glob("_C*.so"), *folder.glob("_C*.pyd")):
        try:
            torch.ops.load_library(path)  # type: ignore[no-untyped-call]
        except OSError:
            continue
    return hasattr(torch.ops.torchvision, "nms")
