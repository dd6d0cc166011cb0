"""Pixels of a toy scene: land, line, then objects with their shadows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rsbench.data.toy.land import SIDE, Image, cross, ground
from rsbench.data.toy.scene import COLOURS, OBJECTS, PLACES, Group, Scene
from rsbench.data.toy.sprites import sprite

_PAINT = {
    "red": (206, 40, 36),
    "blue": (40, 84, 214),
    "yellow": (242, 214, 46),
    "white": (240, 240, 240),
    "black": (40, 40, 44),
    "orange": (244, 136, 24),
    "purple": (150, 58, 186),
}
_MIDDLE = {
    "centre": (24, 24),
    "upper left": (11, 12),
    "upper right": (11, 36),
    "lower left": (37, 12),
    "lower right": (37, 36),
}
_CELLS = {
    1: ((0, 0),),
    2: ((0, -1), (0, 1)),
    3: ((-1, -1), (-1, 1), (1, 0)),
    4: ((-1, -1), (-1, 1), (1, -1), (1, 1)),
    5: ((-1, -2), (-1, 0), (-1, 2), (1, -1), (1, 1)),
    6: ((-1, -2), (-1, 0), (-1, 2), (1, -2), (1, 0), (1, 2)),
}
"""Count -> (row, column) of each object in half steps from the middle of its group."""
_STEP = 10
_WIDE_STEP = 8
"""Pixels between objects; closer where three stand side by side."""


def draw_image(scene: Scene, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw a scene.

    Args:
        scene: its facts.
        rng: decides what is no fact: texture, jitter, headings of objects.

    Returns:
        uint8 ``[SIDE, SIDE, 3]``.
    """
    image = ground(scene.land, rng)
    if scene.line is not None:
        cross(image, scene.line, rng)
    for group in (scene.second, scene.main):
        if group is not None:
            _place(image, group, rng)
    image *= 0.9 + 0.2 * rng.random()
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def _place(image: Image, group: Group, rng: np.random.Generator) -> None:
    y, x = _MIDDLE[PLACES[group.place]]
    turn, tall = int(rng.integers(4)), bool(rng.integers(2))
    colour = np.array(_PAINT[COLOURS[group.colour]], float)
    mask, tone = sprite(OBJECTS[group.kind], turn)
    for row, column in _CELLS[group.count]:
        row, column = (column, row) if tall else (row, column)
        dy, dx = rng.integers(-1, 2, 2)
        step = _WIDE_STEP if group.count > 4 else _STEP
        _stamp(image, y + row * step // 2 + int(dy), x + column * step // 2 + int(dx), mask, tone * colour)


def _stamp(image: Image, y: int, x: int, mask: npt.NDArray[np.bool_], body: Image) -> None:
    """Put an object with its middle at (y, x), and its shadow one pixel below and to the right."""
    height, width = mask.shape
    top = min(max(y - height // 2, 0), SIDE - 1 - height)
    left = min(max(x - width // 2, 0), SIDE - 1 - width)
    image[top + 1 : top + 1 + height, left + 1 : left + 1 + width][mask] *= 0.55
    image[top : top + height, left : left + width][mask] = body[mask]
