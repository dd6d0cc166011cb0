"""What a model retrieved for a query, and a page of such answers. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rsbench.files import write_atomic
from rsbench.report.gallery import render_template

Pixels = npt.NDArray[np.uint8]

SIGNS = {True: "✓", False: "✗", None: ""}
"""Right, wrong, not known; always beside the colour."""


@dataclass(frozen=True)
class Hit:
    """One retrieved image or caption.

    Attributes:
        score: of the method.
        name: file name of the image, or of the image that the caption belongs to.
        captions: of the image, or the one retrieved.
        image: uint8 ``[H, W, 3]``; None where a caption was retrieved.
        right: whether it belongs to the query; None where that is not known.
    """

    score: float
    name: str
    captions: tuple[str, ...]
    image: Pixels | None = None
    right: bool | None = None

    @property
    def sign(self) -> str:
        """``✓``, ``✗`` or nothing."""
        return SIGNS[self.right]


@dataclass(frozen=True)
class Found:
    """A query with what was retrieved for it, best first.

    Attributes:
        query: the text, or the name of the image.
        image: the query where it is an image, uint8 ``[H, W, 3]``.
        hits: of decreasing score.
    """

    query: str
    image: Pixels | None
    hits: tuple[Hit, ...]


def render_retrieved(
    title: str, facts: Sequence[tuple[str, str]], sections: Sequence[tuple[str, Sequence[Found]]], notes: Sequence[str]
) -> str:
    """A page of answers as HTML: one file, every text escaped, no host asked.

    Args:
        title: heading.
        facts: (name, value).
        sections: (heading, answers).
        notes: what a reader must know of the marks.

    Raises:
        DependencyError: jinja2 is not installed.
    """
    return render_template("retrieved.html", title=title, facts=facts, sections=sections, notes=notes)


def write_retrieved(
    path: Path,
    title: str,
    facts: Sequence[tuple[str, str]],
    sections: Sequence[tuple[str, Sequence[Found]]],
    notes: Sequence[str],
) -> None:
    """Write the page of ``render_retrieved``.

    Raises:
        DependencyError: jinja2 is not installed.
        OSError: the folder cannot be written.
    """
    write_atomic(path, render_retrieved(title, facts, sections, notes).encode("utf-8", "replace"))
