"""What is known of a dataset before any of its files is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asset:
    """A file at a public location.

    Attributes:
        url: http(s) address.
        filename: name under which it is kept.
        size: bytes, where known.
        sha256: hex digest, where known.
        hub: dataset repository on the Hugging Face hub, fetched by its own client; empty for plain addresses.
    """

    url: str
    filename: str
    size: int | None = None
    sha256: str | None = None
    hub: str = ""

    @classmethod
    def hub_file(cls, repository: str, filename: str) -> Asset:
        """A file of a dataset repository on the Hugging Face hub."""
        return cls(f"https://huggingface.co/datasets/{repository}/resolve/main/{filename}", filename, hub=repository)


@dataclass(frozen=True)
class DatasetCard:
    """A dataset's facts and defaults. Raise ``revision`` when its numbers change.

    Attributes:
        reader: ``module:function`` that reads the raw files (see ``rsbench.data.sets``).
        image_size: side in pixels of the square images in the packed store.
        splits: the schemes it has; the first is the default.
        official_rates: split -> noise rates of published noise lists.
        base: a packed dataset of which this one is a seeded subset.
        generated: its reader makes it from nothing, so it is packed on first use.
        counts: (images, captions) of the complete dataset, where known.
        shards: dataset repository on the Hugging Face hub whose webdataset shards are streamed; empty for the others.
        samples: images taken from the shards where the user does not say.
        natural_noise: its pairs come noisy, so that without injected noise its kind is ``real``, not ``none``.
        folds: equal runs of test images over which papers average, beside the whole test part (COCO 1K: 5).
    """

    name: str
    title: str
    reader: str
    image_size: int
    splits: tuple[str, ...]
    backbone: str
    tuning: str
    official_rates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    assets: tuple[Asset, ...] = ()
    base: str | None = None
    generated: bool = False
    counts: tuple[int, int] | None = None
    shards: str = ""
    samples: int = 0
    natural_noise: bool = False
    folds: int = 1
    licence: str = "not stated"
    paper: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()
    revision: int = 1

    @property
    def default_split(self) -> str:
        """The split used when none is named."""
        return self.splits[0]
