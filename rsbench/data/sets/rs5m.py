"""RS5M: the card and the reader of a stated subset of its webdataset shards."""

from __future__ import annotations

import itertools
from pathlib import Path

from rsbench.data.card import DatasetCard
from rsbench.data.download import offline
from rsbench.data.local import SPLIT
from rsbench.data.parts import Parts, ReadOptions
from rsbench.data.sharded import Subset, collect, images_of
from rsbench.data.shards import Shard, addressed_shards, hub_shards, local_shards
from rsbench.data.splits import SEEDED, seeded_split
from rsbench.errors import DataError, DownloadError
from rsbench.progress import Progress

_SHARDS = "train/"
_WAY = "give the shards: rsbench prepare rs5m --source FOLDER_OF_TARS"

CARD = DatasetCard(
    name="rs5m",
    title="RS5M, a subset of our own",
    reader="rsbench.data.sets.rs5m:read",
    image_size=224,
    splits=(SPLIT,),
    backbone="clip-vit-b32",
    tuning="full",
    shards="omlab/RS5M",
    samples=20_000,
    paper="Zhang et al., RS5M and GeoRSCLIP: a large-scale vision-language dataset for remote sensing, TGRS 2024",
    source="om-ai-lab/RS5M: hub omlab/RS5M, 128 webdataset shards of about 500 GB",
    notes=(
        "there is no official retrieval split: subset and split are ours, no published row compares",
        "captions come from the web or a captioning model: part of the pairs is noisy before any noise is injected",
    ),
)


def read(
    source: Path | None, captions: Path | None, card: DatasetCard, options: ReadOptions, progress: Progress
) -> Parts:
    """Read the subset (see ``rsbench.data.parts.Reader``); the shards bring their captions.

    Raises:
        DataError: no shards, shards with too many broken samples, or ``captions`` given.
        DownloadError: the network is needed and forbidden, or fails; finished shards are kept.
    """
    if captions is not None:
        raise DataError(f"--captions does not go with '{card.name}': its shards bring the captions; leave it out")
    wanted = card.samples if options.samples is None else options.samples
    if wanted < 1 or options.scratch is None:
        raise DataError(f"--samples is {wanted}, it must be at least 1")
    try:
        shards = _shards(source, card, options)
        subset = Subset(shards, wanted, options.image_size, options.allow_partial, options.scratch)
        taken = collect(subset, progress)
    except DownloadError as error:
        raise DownloadError(f"{error}; finished shards are kept: the same command goes on, or {_WAY}") from error
    names = [name for of in taken for name in of.names][:wanted]
    broken = [fault for of in taken for fault in of.broken]
    notes = [f"subset: {subset.rule()}", f"split {SPLIT}: {SEEDED}"]
    if broken:
        notes.append(f"{len(broken)} broken samples were skipped, first {broken[0]}")
    return Parts(
        name=card.name,
        images=itertools.islice(images_of(subset), len(names)),
        filenames=names,
        captions=[text for of in taken for text in of.captions][:wanted],
        caption_image=range(len(names)),
        classes=(),
        image_class=[-1] * len(names),
        splits={SPLIT: seeded_split(len(names))},
        info={"title": card.title, "samples": wanted, "shards": [s.name for s in shards], "notes": notes},
        revision=card.revision,
    )


def _shards(source: Path | None, card: DatasetCard, options: ReadOptions) -> list[Shard]:
    if source is not None:
        return local_shards(source)
    if flag := offline():
        raise DownloadError(f"the shards are remote and {flag} forbids the network; unset it")
    return addressed_shards(options.address) if options.address else hub_shards(card.shards, _SHARDS)
