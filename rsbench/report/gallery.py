"""A page of figures and of pairs: one HTML file that opens from disk and asks no host for anything. No torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from rsbench.files import write_atomic
from rsbench.report.plots import require_extra

SIDE = 224
"""Largest side of a picture on the page, in pixels."""


@dataclass(frozen=True)
class PairCard:
    """One image with what is said of it.

    Attributes:
        image: uint8 ``[H, W, 3]``.
        title: heading, for example the score.
        captions: (what it is, text), in order; texts may be hostile, they are escaped.
        mark: ``clean``, ``mismatched`` or "" where nothing is known; colours the card and is written on it.
    """

    image: npt.NDArray[np.uint8]
    title: str
    captions: tuple[tuple[str, str], ...]
    mark: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure: ``name.png`` and ``name.svg`` beside the page."""

    name: str
    title: str
    text: str = ""


@dataclass(frozen=True)
class Section:
    """A gallery with a sentence that says what was chosen."""

    title: str
    text: str
    cards: tuple[PairCard, ...]


@dataclass(frozen=True)
class Page:
    """Everything on a page, from top to bottom.

    Attributes:
        title: heading.
        facts: (name, value).
        headers: of the table.
        rows: of the table.
        pictures: figures.
        sections: galleries.
        notes: what was left out, and why.
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    headers: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = ()
    sections: Sequence[Section] = field(default=())
    notes: Sequence[str] = ()


def data_uri(image: npt.NDArray[np.uint8]) -> str:
    """A picture ``[H, W, 3]`` as a JPEG inside an address, no side longer than ``SIDE``."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def render_template(name: str, **values: Any) -> str:
    """A template of ``report/templates`` as HTML; every text is escaped, ``data_uri`` embeds a picture.

    Raises:
        DependencyError: jinja2 is not installed.
    """
    require_extra()
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["data_uri"] = data_uri
    source = files("rsbench.report").joinpath(f"templates/{name}").read_text(encoding="utf-8")
    return environment.from_string(source).render(**values)


def render_page(page: Page) -> str:
    """The page as HTML; every text is escaped.

    Raises:
        DependencyError: jinja2 is not installed.
    """
    return render_template("page.html", page=page)


def write_page(page: Page, path: Path) -> None:
    """Write the page.

    Raises:
        DependencyError: jinja2 is not installed.
        OSError: the folder cannot be written.
    """
    write_atomic(path, render_page(page).encode("utf-8", "replace"))
