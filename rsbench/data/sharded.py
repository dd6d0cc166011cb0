"""A stated, seeded subset of webdataset shards, read shard by shard so that a killed run goes on where it was."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import os
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rsbench.data.images import decode
from rsbench.data.parts import Pixels, Unreadable
from rsbench.data.rows import write_rows
from rsbench.data.shards import Sample, Shard, read_samples
from rsbench.errors import DataError, DownloadError
from rsbench.files import temporary, write_atomic
from rsbench.progress import Progress
from rsbench.seeding import derive_seed

MAX_BROKEN = 0.05
"""Share of a shard's samples that may be broken and are skipped (one always may)."""

_ATTEMPTS = 3  # of a remote shard
_WINDOW = 256  # samples decoded at once; bounds memory


@dataclass(frozen=True)
class Taken:
    """What was taken of one shard; its images are in the file beside.

    Attributes:
        names: shard and key of each image.
        captions: one for each.
        broken: what was skipped and why.
    """

    names: list[str]
    captions: list[str]
    broken: list[str]


@dataclass(frozen=True)
class Subset:
    """The rule: of each shard the first ``ceil(samples / shards)`` valid samples, shards in seeded order.

    Attributes:
        shards: by name.
        samples: how many are wanted in all; the last shards give fewer.
        size: side of the decoded images in pixels.
        any_share: broken samples are skipped whatever their share.
        scratch: folder where finished shards wait for the rest.
    """

    shards: Sequence[Shard]
    samples: int
    size: int
    any_share: bool
    scratch: Path

    @property
    def order(self) -> list[Shard]:
        """The shards in seeded order, no more than there are samples."""
        order = list(self.shards)
        random.Random(derive_seed("shards", 0)).shuffle(order)
        return order[: self.samples]

    @property
    def share(self) -> int:
        """Samples of each shard."""
        return math.ceil(self.samples / len(self.shards))

    @property
    def folder(self) -> Path:
        """Where this very subset is collected."""
        rule = json.dumps([[s.where for s in self.shards], self.samples, self.size, self.any_share])
        return self.scratch / hashlib.sha256(rule.encode()).hexdigest()[:16]

    def rule(self) -> str:
        """The rule in words."""
        return (
            f"the first {self.share:,} valid samples of each of {len(self.order):,} shards in the order of seed 0, "
            f"{self.samples:,} at most"
        )


def collect(subset: Subset, progress: Progress) -> list[Taken]:
    """Read what is not there yet of a subset.

    Args:
        subset: the rule.
        progress: called per window with samples.

    Raises:
        DataError: a shard that is no tar file, or has too many broken samples.
        DownloadError: a remote shard that cannot be read; finished ones are kept.
    """
    subset.folder.mkdir(parents=True, exist_ok=True)
    found: list[Taken] = []
    total = len(subset.order) * subset.share
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for at, shard in enumerate(subset.order):
            note = subset.folder / f"{shard.name}.json"
            report = functools.partial(_report, progress, at * subset.share, total)
            if not note.is_file():
                taken = _retried(subset, shard, pool, report)
                write_atomic(note, json.dumps(asdict(taken)).encode())
            found.append(Taken(**json.loads(note.read_bytes())))
    progress("reading shards", total, total)
    return found


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    progress("reading shards", min(before + done, total - 1), total)


def images_of(subset: Subset) -> Iterator[Pixels]:
    """The collected images, shard by shard."""
    for shard in subset.order:
        yield from np.load(subset.folder / f"{shard.name}.npy", mmap_mode="r", allow_pickle=False)


def _retried(subset: Subset, shard: Shard, pool: ThreadPoolExecutor, report: Callable[[int], None]) -> Taken:
    for _ in range(_ATTEMPTS - 1):
        try:
            return _take(subset, shard, pool, report)
        except DownloadError:
            continue
    return _take(subset, shard, pool, report)


def _take(subset: Subset, shard: Shard, pool: ThreadPoolExecutor, report: Callable[[int], None]) -> Taken:
    """The share of one shard; its images are written whole or not at all."""
    taken, target = Taken([], [], []), subset.folder / f"{shard.name}.npy"
    tmp = temporary(target)
    try:
        with tmp.open("wb") as file, closing(_valid(subset, shard, taken, pool, report)) as images:
            write_rows(file, images)
        os.replace(tmp, target)
    finally:
        tmp.unlink(missing_ok=True)
    return taken


def _valid(
    subset: Subset, shard: Shard, taken: Taken, pool: ThreadPoolExecutor, report: Callable[[int], None]
) -> Generator[Pixels, None, None]:
    """Images of the valid samples up to the share; ``taken`` tells of them and of the broken ones."""
    with closing(read_samples(shard)) as samples:
        while window := list(itertools.islice(samples, min(_WINDOW, subset.share - len(taken.names)))):
            for sample, image in zip(window, pool.map(lambda s: _decoded(s, subset.size), window), strict=True):
                if isinstance(image, Unreadable):
                    taken.broken.append(f"{shard.name}/{sample.key}: {image.reason}")
                    continue
                taken.names.append(f"{shard.name}/{sample.key}")
                taken.captions.append(sample.caption)
                yield image
            _check_broken(subset, shard, taken)
            report(len(taken.names))


def _decoded(sample: Sample, size: int) -> Pixels | Unreadable:
    return Unreadable(sample.fault) if sample.fault else decode(sample.image, size)


def _check_broken(subset: Subset, shard: Shard, taken: Taken) -> None:
    bad, read = len(taken.broken), len(taken.broken) + len(taken.names)
    if not subset.any_share and bad > max(1, MAX_BROKEN * read):
        raise DataError(
            f"shard {shard.where}: {bad} of {read} samples are broken, more than the {MAX_BROKEN:.0%} we skip; "
            f"first {taken.broken[0]}; get the shard again, or accept the loss with --allow-partial"
        )
