"""Captions of a toy scene: each omits facts, picks synonyms, and counts precisely, vaguely or not at all."""

from __future__ import annotations

import numpy as np

from rsbench.data.toy.scene import COLOURS, HEADINGS, LANDS, LINES, OBJECTS, PLACES, Group, Line, Scene

_LANDS = {
    "meadow": ("a meadow", "grassland"),
    "forest": ("a forest", "woodland"),
    "desert": ("a desert", "bare sand"),
    "farmland": ("farmland", "crop fields"),
    "snow": ("snow", "an icy plain"),
    "marsh": ("a marsh", "wetland"),
    "concrete": ("concrete", "a paved area"),
    "rock": ("rocks", "stony ground"),
}
_LINES = {"river": ("river", "stream"), "road": ("road", "street"), "railway": ("railway", "track")}
_HEADINGS = {
    "horizontal": ("horizontal", "from west to east"),
    "vertical": ("vertical", "from north to south"),
    "diagonal": ("diagonal", "from corner to corner"),
}
_OBJECTS = {
    "plane": (("plane", "planes"), ("aircraft", "aircraft")),
    "car": (("car", "cars"), ("vehicle", "vehicles")),
    "truck": (("truck", "trucks"), ("lorry", "lorries")),
    "house": (("house", "houses"), ("building", "buildings")),
    "tent": (("tent", "tents"), ("shelter", "shelters")),
    "tank": (("tank", "tanks"), ("silo", "silos")),
    "court": (("court", "courts"), ("pitch", "pitches")),
    "helicopter": (("helicopter", "helicopters"), ("chopper", "choppers")),
}
_PLACES = {
    "centre": ("in the middle", "at the center"),
    "upper left": ("in the upper left", "at the top left"),
    "upper right": ("in the upper right", "at the top right"),
    "lower left": ("in the lower left", "at the bottom left"),
    "lower right": ("in the lower right", "at the bottom right"),
}
_NUMBERS = ("one", "two", "three", "four", "five", "six")
_VAGUE = (
    ("a", "a single"),
    ("a pair of", "a couple of"),
    ("a few", "several"),
    ("some", "several"),
    ("several", "many"),
    ("many", "a group of"),
)

SHARES = {
    "land": 0.8,
    "line": 0.75,
    "heading": 0.55,
    "colour": 0.8,
    "place": 0.65,
    "second": 0.75,
    "second colour": 0.75,
    "second place": 0.5,
    "exact": 0.5,
    "vague": 0.3,
}
"""How often a caption tells a fact that the scene has."""


def write_captions(scene: Scene, rng: np.random.Generator, count: int = 5) -> list[str]:
    """Write captions of a scene."""
    return [_caption(scene, rng) for _ in range(count)]


def _caption(scene: Scene, rng: np.random.Generator) -> str:
    told = {fact: bool(rng.random() < share) for fact, share in SHARES.items()}
    facts = _facts(scene)
    if all(told[fact] for fact in facts):
        told[facts[int(rng.integers(len(facts)))]] = False
    land = _either(rng, _LANDS[LANDS[scene.land]]) if told["land"] else ""
    main = _group(scene.main, told["colour"], told["place"], rng)
    others = []
    if scene.second is not None and told["second"]:
        others.append(_group(scene.second, told["second colour"], told["second place"], rng))
    if scene.line is not None and told["line"]:
        others.append(_line(scene.line, told["heading"], rng))
    verb = "is" if scene.main.count == 1 else "are"
    return _join(main, others, land, verb, int(rng.integers(4)))


def _facts(scene: Scene) -> tuple[str, ...]:
    """Facts of this scene that a caption may leave out; at least one always is."""
    line = ("line", "heading") if scene.line is not None else ()
    second = ("second", "second colour", "second place") if scene.second is not None else ()
    return ("land", "colour", "place", *line, *second)


def _join(main: str, others: list[str], land: str, verb: str, order: int) -> str:
    """Four orders of the parts; a missing land cover leaves two."""
    rest = "".join(f" and {o}" for o in others)
    if order == 0 and land:
        return f"{land} with {main}{rest} ."
    if order == 1:
        return f"there {verb} {main}{' on ' + land if land else ''}{rest} ."
    if order == 2 and others:
        return f"{main}{' on ' + land if land else ''} near {' and '.join(others)} ."
    return f"{main}{rest}{' on ' + land if land else ''} ."


def _group(group: Group, colour: bool, place: bool, rng: np.random.Generator) -> str:
    single, plural = _OBJECTS[OBJECTS[group.kind]][int(rng.integers(2))]
    words = [_number(group.count, rng)]
    if colour:
        words.append(COLOURS[group.colour])
    words.append(single if group.count == 1 else plural)
    if place:
        words.append(_either(rng, _PLACES[PLACES[group.place]]))
    return " ".join(w for w in words if w)


def _number(count: int, rng: np.random.Generator) -> str:
    """An exact number, a vague one, or none."""
    draw = rng.random()
    if draw < SHARES["exact"]:
        return _NUMBERS[count - 1]
    if draw < SHARES["exact"] + SHARES["vague"] or count == 1:
        return _either(rng, _VAGUE[count - 1])
    return ""


def _line(line: Line, heading: bool, rng: np.random.Generator) -> str:
    name = _either(rng, _LINES[LINES[line.kind]])
    if not heading:
        return f"a {name}"
    word, course = _HEADINGS[HEADINGS[line.heading]]
    return f"a {word} {name}" if rng.random() < 0.5 else f"a {name} {course}"


def _either(rng: np.random.Generator, options: tuple[str, str]) -> str:
    return options[int(rng.integers(2))]
