"""Objects seen from above, as small pictures.

``#`` is the object's colour, ``l`` and ``d`` a lighter and a darker tone of it, ``g`` glass, ``.`` nothing.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

_PICTURES = {
    "plane": """
        ....l....
        ....#....
        ...l#d...
        .l######.
        #########
        ...l#d...
        ....#....
        ...###...
        ..#####..""",
    "car": """
        .l##.
        l###d
        lgggd
        l###d
        l###d
        lgggd
        .##d.""",
    "truck": """
        .ddd.
        .ggg.
        .....
        l####
        l###d
        l###d
        l###d
        l###d
        l###d
        ####d""",
    "house": """
        llllllll
        l######l
        ########
        gggggggg
        dddddddd
        dddddddd
        dddddddd""",
    "tent": """
        ....l....
        ...l#d...
        ..l##dd..
        .l###ddd.
        ..##ddd..
        ...#dd...
        ....d....""",
    "tank": """
        ..####..
        .#llll#.
        #ll####d
        #l####dd
        #l####dd
        ######dd
        .##dddd.
        ..dddd..""",
    "court": """
        #########
        #lllllll#
        #l##l##l#
        #l##l##l#
        #l##l##l#
        #lllllll#
        #########""",
    "helicopter": """
        g.......g
        .g.###.g.
        ..g###g..
        ...###...
        ..g###g..
        .g..#..g.
        g...#...g
        ....#....
        ...###...""",
}

_TONES = {"#": 1.0, "l": 1.3, "d": 0.68, "g": 0.3}


@functools.cache
def sprite(name: str, turn: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Mask ``[h, w]`` and tone ``[h, w, 1]`` of an object turned by ``turn`` quarters."""
    rows = [line.strip() for line in _PICTURES[name].strip().splitlines()]
    cells = np.rot90(np.array([list(row) for row in rows]), turn)
    tones = np.vectorize(lambda c: _TONES.get(c, 0.0), otypes=[float])(cells)
    return tones > 0, np.ascontiguousarray(tones)[..., None]
