"""The common reader: a caption file plus an image source become the parts of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rsbench.data.archive import open_source
from rsbench.data.captions import Record, parse_captions
from rsbench.data.card import DatasetCard
from rsbench.data.images import read_images
from rsbench.data.parts import Parts, Pixels, Reader, ReadOptions, Unreadable
from rsbench.data.splits import Split
from rsbench.errors import DataError
from rsbench.progress import Progress

Splits = Callable[[Sequence[Record]], tuple[dict[str, Split], dict[str, Any]]]
Scene = Callable[[Record], str | None]


def given_scene(record: Record) -> str | None:
    """The class written in the caption file."""
    return record.scene


def captioned(splits: Splits, scene: Scene = given_scene, limit: int | None = None) -> Reader:
    """The reader of one dataset of captioned images.

    Args:
        splits: records -> (schemes, facts for ``info``).
        scene: record -> scene class.
        limit: captions kept of each image, the first ones; None for all.

    Returns:
        A reader; it looks for the captions inside the source where none are given, and raises ``DataError`` as
        ``parse_captions`` and ``read_images`` do.
    """

    def read(
        source: Path | None, captions: Path | None, card: DatasetCard, options: ReadOptions, progress: Progress
    ) -> Parts:
        del progress  # the packing reports every image
        if source is None:
            raise DataError(f"dataset '{card.name}' needs its images: --source FOLDER_OR_ARCHIVE")
        records = parse_captions(*_caption_file(source, captions, card.name))
        records = [replace(r, captions=r.captions[:limit]) for r in records]
        schemes, facts = splits(records)
        names = [r.filename for r in records]
        images = read_images(source, names, options.image_size, options.allow_partial)
        return _parts(card, records, images, [scene(r) for r in records], schemes, facts)

    return read


def _parts(
    card: DatasetCard,
    records: Sequence[Record],
    images: Iterable[Pixels | Unreadable],
    scenes: Sequence[str | None],
    schemes: Mapping[str, Split],
    facts: Mapping[str, Any],
) -> Parts:
    classes = sorted({s for s in scenes if s is not None})
    index: dict[str | None, int] = {None: -1, **{c: i for i, c in enumerate(classes)}}
    return Parts(
        name=card.name,
        images=images,
        filenames=[r.filename for r in records],
        captions=[c for r in records for c in r.captions],
        caption_image=[i for i, r in enumerate(records) for _ in r.captions],
        classes=classes,
        image_class=[index[s] for s in scenes],
        splits={name: schemes[name] for name in card.splits},
        info={"title": card.title, **facts},
        revision=card.revision,
    )


def _caption_file(source: Path, captions: Path | None, name: str) -> tuple[bytes, str]:
    """Content and name of the caption file: the one given, else the only plausible JSON beside the images."""
    if captions is not None:
        try:
            return captions.read_bytes(), captions.name
        except OSError as error:
            raise DataError(f"--captions {captions}: {error.strerror}; give the JSON file of the captions") from error
    with open_source(source) as files:
        found = [n for n in files.members if n.lower().endswith((".json", ".json.gz")) and not n.startswith(".")]
        named = [n for n in found if n.lower().startswith(("dataset", name))] or found
        named = [n for n in named if n == f"dataset_{name}.json"] or named  # Karpathy's archive has three datasets
        if len(named) != 1:
            what = f"several JSON files ({', '.join(sorted(named)[:3])})" if named else "no JSON file"
            raise DataError(f"{files.where} holds {what}; name the captions with --captions FILE.json")
        return files.read(files.members[named[0]][0]), named[0]
