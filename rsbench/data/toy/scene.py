"""What a toy scene shows: facts, drawn from a generator before any pixel or word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LANDS = ("meadow", "forest", "desert", "farmland", "snow", "marsh", "concrete", "rock")
LINES = ("river", "road", "railway")
HEADINGS = ("horizontal", "vertical", "diagonal")
OBJECTS = ("plane", "car", "truck", "house", "tent", "tank", "court", "helicopter")
COLOURS = ("red", "blue", "yellow", "white", "black", "orange", "purple")
PLACES = ("centre", "upper left", "upper right", "lower left", "lower right")
MOST = 6
MOST_SECOND = 3
"""Largest number of objects in the main and in the second group."""

_LINE_SHARE, _SECOND_SHARE = 0.75, 0.5


@dataclass(frozen=True)
class Line:
    """Something long that crosses the scene; indices into ``LINES`` and ``HEADINGS``."""

    kind: int
    heading: int


@dataclass(frozen=True)
class Group:
    """Objects of one class and colour; indices into ``OBJECTS``, ``COLOURS`` and ``PLACES``."""

    kind: int
    colour: int
    count: int
    place: int


@dataclass(frozen=True)
class Scene:
    """All facts of one image; ``land`` is an index into ``LANDS`` and the class of the image."""

    land: int
    line: Line | None
    main: Group
    second: Group | None

    def attributes(self) -> tuple[int, ...]:
        """One label per entry of ``ATTRIBUTES``; 0 of an optional part means that it is absent."""
        line = (0, 0) if self.line is None else (1 + self.line.kind, 1 + self.line.heading)
        other = self.second
        second = (0,) * 4 if other is None else (1 + other.kind, 1 + other.colour, other.count, 1 + other.place)
        return (self.land, *line, self.main.kind, self.main.colour, self.main.count - 1, self.main.place, *second)


ATTRIBUTES = {
    "land": len(LANDS),
    "line": 1 + len(LINES),
    "heading": 1 + len(HEADINGS),
    "kind": len(OBJECTS),
    "colour": len(COLOURS),
    "count": MOST,
    "place": len(PLACES),
    "second kind": 1 + len(OBJECTS),
    "second colour": 1 + len(COLOURS),
    "second count": 1 + MOST_SECOND,
    "second place": 1 + len(PLACES),
}
"""Name of each attribute -> number of values."""


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw the facts of one scene; a second group differs from the first in class, colour and place."""
    land = _pick(rng, LANDS)
    line = Line(_pick(rng, LINES), _pick(rng, HEADINGS)) if rng.random() < _LINE_SHARE else None
    main = Group(_pick(rng, OBJECTS), _pick(rng, COLOURS), 1 + int(rng.integers(MOST)), _pick(rng, PLACES))
    second = None
    if rng.random() < _SECOND_SHARE:
        second = Group(
            _other(rng, OBJECTS, main.kind),
            _other(rng, COLOURS, main.colour),
            1 + int(rng.integers(MOST_SECOND)),
            _other(rng, PLACES, main.place),
        )
    return Scene(land, line, main, second)


def _pick(rng: np.random.Generator, values: tuple[str, ...]) -> int:
    return int(rng.integers(len(values)))


def _other(rng: np.random.Generator, values: tuple[str, ...], taken: int) -> int:
    """An index that is not ``taken``, all others being equally likely."""
    return (taken + 1 + int(rng.integers(len(values) - 1))) % len(values)
