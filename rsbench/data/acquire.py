"""Where the raw files of a dataset come from: its card, its downloads, and what to type where there is neither."""

from __future__ import annotations

from pathlib import Path

from rsbench.data.card import DatasetCard
from rsbench.data.download import download
from rsbench.data.local import local_card, register_local
from rsbench.errors import DataError, UnknownNameError
from rsbench.progress import Progress
from rsbench.registry import DATASETS

_CAPTION_SUFFIXES = (".json", ".json.gz")


def card_of(name: str, root: Path, source: Path | None, captions: Path | None) -> DatasetCard:
    """The card of a registered or own dataset; a new one where pictures and captions are given.

    Raises:
        UnknownNameError: neither registered nor packed here, and no files given.
        DataError: a new name with only one of ``source`` and ``captions``.
        UsageError: a new name that cannot be one.
    """
    register_local(root)
    if name in DATASETS.names():
        card: DatasetCard = DATASETS.load(name)
        return card
    if source is None and captions is None:
        hint = f"for your own pairs: rsbench prepare {name} --images FOLDER --captions FILE.csv"
        raise UnknownNameError(DATASETS.kind, name, DATASETS.names(), hint)
    if source is None or captions is None:
        raise DataError(
            f"'{name}' is not registered, so it is your own data, which needs both: "
            f"rsbench prepare {name} --images FOLDER --captions FILE.csv"
        )
    return local_card(name)


def ways_out(card: DatasetCard) -> str:
    """What to type to get a dataset: from local files, and by download where a public location is known."""
    name = card.base or card.name
    if DATASETS.load(name).assets or card.shards:
        return f"download it: rsbench prepare {name}, or {local_way(card)}"
    return f"{local_way(card)}; no download is known, they can be had from: {card.source}"


def local_way(card: DatasetCard) -> str:
    """What to type where the files are at hand."""
    if card.shards:
        return f"give its shards: rsbench prepare {card.name} --source FOLDER_OF_TARS"
    return f"give its files: rsbench prepare {card.base or card.name} --source FOLDER_OR_ARCHIVE --captions FILE.json"


def fetch(
    card: DatasetCard, root: Path, captions: Path | None, allowed: bool, progress: Progress
) -> tuple[Path | None, Path | None]:
    """Source and captions from the card's public locations; shards are left to their reader.

    Args:
        card: of the dataset.
        root: data root; files are kept in its ``downloads``.
        captions: caption file of the user's, which is used instead of the public one.
        allowed: whether the network may be used.
        progress: called per block with bytes.

    Raises:
        DataError: no public location, or not allowed.
        DownloadError: see ``download``.
    """
    if not card.assets and not card.shards:
        raise DataError(f"dataset '{card.name}' has no known public download; {ways_out(card)}")
    if not allowed:
        raise DataError(f"dataset '{card.name}' is not prepared and --no-download was given; {ways_out(card)}")
    if card.shards:
        return None, captions
    folder = root / "downloads" / card.name
    wanted = [a for a in card.assets if captions is None or not a.filename.endswith(_CAPTION_SUFFIXES)]
    files = [download(asset, folder, local_way(card), progress) for asset in wanted]
    images = [f for f in files if not f.name.endswith(_CAPTION_SUFFIXES)]
    texts = next((f for f in files if f.name.endswith(_CAPTION_SUFFIXES)), None)
    return images[0] if len(images) == 1 else folder, captions or texts
