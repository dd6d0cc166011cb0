"""The toy dataset: the same from a seed, as rich as promised, and never telling everything."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from rsbench.data.lifecycle import open_dataset
from rsbench.data.sets.toy import CARD, toy_parts
from rsbench.data.toy import words
from rsbench.data.toy.make import COUNTS, make_toy
from rsbench.data.toy.scene import ATTRIBUTES, COLOURS, HEADINGS, LANDS, LINES, OBJECTS, PLACES, Scene, draw_scene
from rsbench.progress import silent


def test_a_scene_depends_on_its_seed_and_index_alone() -> None:
    few, more, other = make_toy(0, 5), make_toy(0, 9), make_toy(1, 5)
    assert np.array_equal(few.images, more.images[:5])
    assert few.captions == more.captions[:5]
    assert few.scenes == more.scenes[:5]
    assert not np.array_equal(few.images, other.images)
    assert few.captions != other.captions


def test_captions_omit_facts_vary_and_stay_short() -> None:
    made = make_toy(3, 300)
    captions = [c for five in made.captions for c in five]
    counts = Counter(w for c in captions for w in c.split() if w != ".")
    assert 90 <= len(counts) <= 130
    assert 9 <= sum(counts.values()) / len(captions) <= 14
    assert np.mean([len(set(five)) for five in made.captions]) > 4.5, "five captions are rarely alike"
    assert {"aircraft", "woodland", "several", "three"} <= set(counts), "synonyms, vague and exact counts"


def tells(caption: str, options: tuple[str, str]) -> bool:
    return any(option in caption for option in options)


def tells_everything(caption: str, scene: Scene) -> bool:
    """Whether a caption leaves nothing out but, perhaps, exact numbers."""
    facts = [tells(caption, words._LANDS[LANDS[scene.land]])]
    for group in (scene.main, scene.second):
        if group is not None:
            names = words._OBJECTS[OBJECTS[group.kind]]
            facts += [any(tells(caption, pair) for pair in names), COLOURS[group.colour] in caption]
            facts.append(tells(caption, words._PLACES[PLACES[group.place]]))
    if scene.line is not None:
        facts.append(tells(caption, words._LINES[LINES[scene.line.kind]]))
        facts.append(tells(caption, words._HEADINGS[HEADINGS[scene.line.heading]]))
    return all(facts)


def test_every_caption_leaves_a_fact_out() -> None:
    made = make_toy(2, 400)
    whole = [c for five, s in zip(made.captions, made.scenes, strict=True) for c in five if tells_everything(c, s)]
    assert not whole
    both = [s for s in made.scenes if s.second is not None and s.line is not None]
    assert tells_everything(" ".join([*all_words(both[0])]), both[0]), "the check itself can find one"


def all_words(scene: Scene) -> list[str]:
    groups = [g for g in (scene.main, scene.second) if g is not None]
    said = [words._LANDS[LANDS[scene.land]][0]]
    for group in groups:
        said += [
            COLOURS[group.colour],
            words._OBJECTS[OBJECTS[group.kind]][0][0],
            words._PLACES[PLACES[group.place]][0],
        ]
    assert scene.line is not None
    return [*said, words._LINES[LINES[scene.line.kind]][0], words._HEADINGS[HEADINGS[scene.line.heading]][0]]


def test_every_attribute_takes_all_its_values() -> None:
    labels = np.array([s.attributes() for s in make_toy(5, 800).scenes])
    assert [len(np.unique(column)) for column in labels.T] == list(ATTRIBUTES.values())


def test_a_second_group_differs_from_the_first() -> None:
    rng = np.random.default_rng(0)
    for scene in (draw_scene(rng) for _ in range(300)):
        if scene.second is not None:
            assert scene.second.kind != scene.main.kind
            assert scene.second.colour != scene.main.colour
            assert scene.second.place != scene.main.place


def test_scenes_of_one_land_look_alike_and_differ_from_others() -> None:
    made = make_toy(6, 400)
    colour = made.images.astype(float).mean(axis=(1, 2))
    lands = np.array([s.land for s in made.scenes])
    centres = np.stack([colour[lands == i].mean(axis=0) for i in range(len(LANDS))])
    nearest = np.linalg.norm(colour[:, None] - centres[None], axis=2).argmin(axis=1)
    assert (nearest == lands).mean() > 0.7


def test_the_packed_toy_is_made_at_first_use(tmp_path: Path) -> None:
    dataset = open_dataset("toy", tmp_path)
    again = open_dataset("toy", tmp_path)
    assert again.fingerprint == dataset.fingerprint
    assert {k: len(v) for k, v in dataset.splits["official"].items()} == COUNTS
    assert dataset.images.shape == (2800, 48, 48, 3)
    assert len(dataset.captions) == 14_000
    assert dataset.classes == LANDS
    assert np.bincount(dataset.caption_image).tolist() == [5] * 2800


def test_another_dataset_seed_is_another_dataset() -> None:
    a, b = toy_parts(0, CARD, silent), toy_parts(1, CARD, silent)
    assert a.captions != b.captions
    assert a.filenames == b.filenames
