"""A text or a picture that no dataset has, read as a backbone reads a dataset."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rsbench.backbones.base import Backbone, Inputs
from rsbench.data.dataset import Dataset
from rsbench.data.images import decode
from rsbench.data.parts import Unreadable
from rsbench.errors import DataError, UsageError

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")

_WORD = re.compile(r"[A-Za-z0-9]+")
_NO_WORD = "qxjzvkw"


def inputs_of(backbone: Backbone, image: Pixels, text: str, tokens: bool, use: Callable[[Inputs], T]) -> T:
    """Hand a dataset of one image and one text to a backbone, and what it makes of it to ``use``.

    The second text of the inputs has the same number of words, none of which means anything (see ``check_known``).
    Features that a backbone caches go to a folder that is gone afterwards.

    Args:
        backbone: with its fitted statistics.
        image: uint8 ``[S, S, 3]``.
        text: not empty.
        tokens: whether the method needs token features.
        use: called with the inputs while they are there.
    """
    tiny = Dataset(
        name="query",
        fingerprint="",
        images=np.ascontiguousarray(image)[None],
        images_hash=hashlib.sha256(image.tobytes()).hexdigest(),
        filenames=("query",),
        captions=(text, meaningless(text)),
        caption_image=np.zeros(2, dtype=np.int64),
        image_class=np.full(1, -1, dtype=np.int64),
        classes=(),
        splits={},
    )
    with TemporaryDirectory(prefix="rsbench-query-") as folder:
        return use(backbone.inputs(tiny, Path(folder), tokens=tokens))


def meaningless(text: str) -> str:
    """The text with a word that nobody knows for each of its words; empty where it has none."""
    found = _WORD.sub(_NO_WORD, text)
    return found if found != text else ""


def check_known(text: str, inputs: Inputs) -> None:
    """Refuse a text of which a backbone with a vocabulary of whole words reads nothing.

    Such a text looks to it as words that mean nothing do; one that knows pieces of words tells them apart.

    Raises:
        UsageError: all words of the text are unknown.
    """
    if all(bool((rows[0] == rows[1]).all()) for rows in inputs.text.values()):
        raise UsageError(f"the run knows no word of '{text}'; use words of its training captions")


def read_image(path: Path, size: int) -> Pixels:
    """Read a picture as the store does: squashed to uint8 ``[size, size, 3]``.

    Raises:
        DataError: a folder, a file that cannot be read, or one that is no image.
    """
    try:
        found = decode(path.read_bytes(), size)
    except OSError as error:
        raise DataError(f"image '{path}' cannot be read ({error.strerror}); give a jpg, png or tif file") from None
    if isinstance(found, Unreadable):
        raise DataError(f"image '{path}' cannot be read ({found.reason}); give a jpg, png or tif file")
    return found
