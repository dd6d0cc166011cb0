"""The embedded toy dataset: the card and the reader, which makes it from nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rsbench.data.card import DatasetCard
from rsbench.data.parts import Parts, ReadOptions
from rsbench.data.toy.land import SIDE
from rsbench.data.toy.make import CAPTIONS, COUNTS, make_toy
from rsbench.data.toy.scene import LANDS
from rsbench.progress import Progress

CARD = DatasetCard(
    name="toy",
    title="Toy remote sensing: procedural overhead scenes",
    reader="rsbench.data.sets.toy:read",
    image_size=SIDE,
    splits=("official",),
    backbone="toy",
    tuning="heads",
    generated=True,
    counts=(sum(COUNTS.values()), CAPTIONS * sum(COUNTS.values())),
    licence="Apache-2.0",
    source="rsbench.data.toy, seed 0",
    notes=("made from a seed in seconds; for trying things out and for tests, not for claims about real images",),
)


def read(
    source: Path | None, captions: Path | None, card: DatasetCard, options: ReadOptions, progress: Progress
) -> Parts:
    """Make the toy dataset of seed 0 (see ``rsbench.data.parts.Reader``); no files are read."""
    del source, captions, options
    return toy_parts(0, card, progress)


def toy_parts(seed: int, card: DatasetCard, progress: Progress) -> Parts:
    """The toy dataset of any seed, ready to be packed; classes are land covers."""
    made = make_toy(seed, progress=progress)
    bounds = np.cumsum([0, *COUNTS.values()])
    return Parts(
        name=card.name,
        images=made.images,
        filenames=[f"scene_{i:04d}.png" for i in range(len(made.images))],
        captions=[text for texts in made.captions for text in texts],
        caption_image=np.repeat(np.arange(len(made.images)), CAPTIONS),
        classes=LANDS,
        image_class=[scene.land for scene in made.scenes],
        splits={
            "official": {part: np.arange(a, b) for part, a, b in zip(COUNTS, bounds[:-1], bounds[1:], strict=True)}
        },
        info={"seed": seed},
        revision=card.revision,
    )
