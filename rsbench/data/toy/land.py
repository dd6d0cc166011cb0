"""Textures of the eight land covers, and the lines that cross them.

Only sums, products, comparisons and square roots of drawn numbers are used, never a transcendental function,
so that the pictures are the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rsbench.data.toy.scene import HEADINGS, LANDS, LINES, Line

SIDE = 48
"""Width and height of a scene in pixels."""

Image = npt.NDArray[np.float64]
"""``[SIDE, SIDE, 3]``, values 0 to 255."""
Plane = npt.NDArray[np.float64]
"""``[SIDE, SIDE]``."""

_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(float)
_HALF_ROOT = 0.5**0.5


def ground(land: int, rng: np.random.Generator) -> Image:
    """Draw a land cover."""
    image = _GROUNDS[LANDS[land]](rng)
    return image + 7.0 * (rng.random((SIDE, SIDE, 1)) - 0.5)


def cross(image: Image, line: Line, rng: np.random.Generator) -> None:
    """Draw a river, road or railway over an image, in place."""
    across, along = _coordinates(HEADINGS[line.heading], rng)
    across = across - (SIDE / 2 - 14 + 28 * rng.random())
    _LINES[LINES[line.kind]](image, across, along, rng)


def _coordinates(heading: str, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Distance across and along a line of some heading, each about 0 to ``SIDE``."""
    if heading == "horizontal":
        return _Y, _X
    if heading == "vertical":
        return _X, _Y
    x = _X if rng.random() < 0.5 else SIDE - 1 - _X
    return (_Y - x) * _HALF_ROOT + SIDE / 2, (_Y + x) * _HALF_ROOT


def _noise(rng: np.random.Generator, cells: int) -> Plane:
    """Smooth noise in [0, 1] by bilinear interpolation of ``cells`` random cells per side."""
    knots = rng.random((cells + 1, cells + 1))
    place = np.arange(SIDE) * (cells / SIDE)
    low = place.astype(np.int64)
    part = place - low
    rows = knots[low] + (knots[low + 1] - knots[low]) * part[:, None]
    noise: Plane = rows[:, low] + (rows[:, low + 1] - rows[:, low]) * part
    return noise


def _mix(dark: tuple[int, int, int], light: tuple[int, int, int], share: Plane) -> Image:
    """Blend two colours by a share in [0, 1]."""
    a, b = np.array(dark, float), np.array(light, float)
    image: Image = a + (b - a) * share[..., None]
    return image


def _meadow(rng: np.random.Generator) -> Image:
    return _mix((112, 158, 74), (156, 196, 104), 0.6 * _noise(rng, 5) + 0.4 * _noise(rng, 20))


def _forest(rng: np.random.Generator) -> Image:
    """Tree crowns on a jittered grid, lit from the upper left."""
    image = _mix((22, 52, 30), (34, 66, 36), _noise(rng, 6))
    step = 6
    for top in range(-2, SIDE, step):
        for left in range(-2, SIDE, step):
            y, x = top + 3 * rng.random(), left + 3 * rng.random()
            radius, tone = 2.2 + 1.4 * rng.random(), 0.8 + 0.5 * rng.random()
            _crown(image, y + 2.5, x + 2.5, radius, tone)
    return image


def _crown(image: Image, y: float, x: float, radius: float, tone: float) -> None:
    rows = slice(max(0, int(y - radius)), int(y + radius) + 2)
    columns = slice(max(0, int(x - radius)), int(x + radius) + 2)
    dy, dx = _Y[rows, columns] - y, _X[rows, columns] - x
    inside = dy * dy + dx * dx < radius * radius
    light = tone * (1 - 0.12 * (dy + dx))[inside]
    image[rows, columns][inside] = np.array((44.0, 96.0, 48.0)) * light[:, None]


def _desert(rng: np.random.Generator) -> Image:
    """Dunes: a triangle wave bent by noise."""
    phase = (_Y + 0.5 * _X + 14 * _noise(rng, 3)) / 9 + rng.random()
    wave = np.abs(phase % 1 * 2 - 1)
    return _mix((206, 168, 106), (238, 208, 150), 0.75 * wave + 0.25 * _noise(rng, 16))


def _farmland(rng: np.random.Generator) -> Image:
    """Four to nine fields with rows of crops."""
    rows, columns = (np.sort(rng.integers(9, SIDE - 9, 1 + int(rng.integers(2)))) for _ in range(2))
    field = np.searchsorted(rows, _Y, side="right") * 3 + np.searchsorted(columns, _X, side="right")
    palette = np.array([(150, 168, 78), (190, 176, 96), (128, 148, 62), (172, 138, 88), (206, 192, 120)], float)
    image: Image = palette[rng.integers(len(palette), size=9)][field]
    upright = (rng.random(9) < 0.5)[field]
    furrow = np.where(upright, _X, _Y) % 3 == 0
    return image * np.where(furrow, 0.86, 1.02)[..., None]


def _snow(rng: np.random.Generator) -> Image:
    return _mix((206, 218, 234), (246, 249, 252), 0.8 * _noise(rng, 4) + 0.2 * _noise(rng, 16))


def _marsh(rng: np.random.Generator) -> Image:
    """Pools between reeds."""
    height = 0.7 * _noise(rng, 7) + 0.3 * _noise(rng, 14)
    image = _mix((92, 106, 62), (130, 136, 82), _noise(rng, 20))
    image[height < 0.43] = (74, 108, 118)
    return image


def _concrete(rng: np.random.Generator) -> Image:
    """Slabs with joints."""
    image = _mix((164, 165, 168), (184, 185, 187), _noise(rng, 8))
    image[(_Y + int(rng.integers(12))) % 12 < 1] *= 0.86
    image[(_X + int(rng.integers(12))) % 12 < 1] *= 0.86
    return image


def _rock(rng: np.random.Generator) -> Image:
    """Boulders: ridges of noise with a lit and a shaded side."""
    height = _noise(rng, 9) + 0.6 * _noise(rng, 16)
    slope = np.zeros((SIDE, SIDE))
    slope[1:, 1:] = height[1:, 1:] - height[:-1, :-1]
    return _mix((84, 72, 66), (158, 140, 126), np.clip(0.5 + 2.2 * slope, 0, 1))


def _river(image: Image, across: Plane, along: Plane, rng: np.random.Generator) -> None:
    """A band that meanders, with pale banks."""
    bends = 10 * (rng.random(7) - 0.5)
    place = np.clip(along, 0, 71.9) / 12
    low = place.astype(np.int64)
    bend = bends[np.minimum(low, 6)] + (bends[np.minimum(low + 1, 6)] - bends[np.minimum(low, 6)]) * (place - low)
    distance = np.abs(across - bend)
    _paint(image, distance, 4.2, (196, 190, 150))
    _paint(image, distance, 3.4, (52, 112, 176))
    _paint(image, np.abs(distance - 1.2), 0.3, (84, 142, 200))


def _road(image: Image, across: Plane, along: Plane, rng: np.random.Generator) -> None:
    """Asphalt with pale edges and a dashed middle line."""
    distance = np.abs(across)
    _paint(image, distance, 3.6, (190, 186, 178))
    _paint(image, distance, 3.0, (74, 74, 80))
    dash = (along + 6 * rng.random()) % 6 < 3
    _paint(image, np.where(dash, distance, SIDE), 0.5, (240, 226, 150))


def _railway(image: Image, across: Plane, along: Plane, rng: np.random.Generator) -> None:
    """Ballast, sleepers and two rails."""
    distance = np.abs(across)
    _paint(image, distance, 3.2, (138, 126, 116))
    sleeper = (along + 3 * rng.random()) % 3 < 1.2
    _paint(image, np.where(sleeper, distance, SIDE), 2.8, (84, 56, 40))
    _paint(image, np.abs(distance - 1.5), 0.4, (216, 218, 224))


def _paint(image: Image, distance: Plane, half: float, colour: tuple[int, int, int]) -> None:
    """Blend a colour in where ``distance`` is below ``half``, with one pixel of soft edge."""
    cover = np.clip(half + 0.5 - distance, 0, 1)[..., None]
    image += (np.array(colour, float) - image) * cover


_GROUNDS: dict[str, Callable[[np.random.Generator], Image]] = {
    "meadow": _meadow,
    "forest": _forest,
    "desert": _desert,
    "farmland": _farmland,
    "snow": _snow,
    "marsh": _marsh,
    "concrete": _concrete,
    "rock": _rock,
}
_LINES: dict[str, Callable[[Image, Plane, Plane, np.random.Generator], None]] = {
    "river": _river,
    "road": _road,
    "railway": _railway,
}
