"""Caption files: Karpathy-style JSON, NWPU's class-keyed JSON, the plain schema with ``captions`` lists, tables."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from rsbench.data.table_captions import ENDINGS, plain_schema
from rsbench.errors import DataError

T = TypeVar("T")

PARTS = ("train", "val", "test")
_SPLIT_NAMES = {**{p: p for p in PARTS}, "restval": "train"}
_SPLIT_KEYS = ("split", "rrsitr_split")


@dataclass(frozen=True)
class Record:
    """One image of a caption file.

    Attributes:
        filename: as written in the file.
        captions: whitespace-stripped, none empty.
        split: official part, None where the file does not say.
        rrsitr_split: part in RRSITR's split, None where the file does not say.
        scene: scene class, None where unknown.
    """

    filename: str
    captions: tuple[str, ...]
    split: str | None = None
    rrsitr_split: str | None = None
    scene: str | None = None


def parse_captions(content: bytes, name: str) -> list[Record]:
    """Read a caption file of any of the four forms.

    * Karpathy: ``{"images": [{"filename", "split", "sentences": [{"raw"}]}]}`` (RSICD, RSITMD, UCM, Sydney).
    * Class-keyed: ``{"airport": [{"filename", "split", "raw", "raw_1", ...}]}`` (NWPU-Captions).
    * Plain: ``{"images": [{"filename", "split", "class", "captions": [...], "rrsitr_split"}]}``.
    * Table: ``filename,caption[,split][,class]``, one row per caption, where the name ends in ``.csv`` or ``.tsv``.

    Args:
        content: UTF-8, gzip allowed.
        name: file name, for messages and to tell tables from JSON.

    Returns:
        One record per image, in file order.

    Raises:
        DataError: not JSON, another shape, a bad caption, split name or duplicate; the message says where.
    """
    text = _text(content, name)
    data = plain_schema(text, name) if name.lower().endswith(ENDINGS) else _json(text, name)
    try:
        records = list(_records(data))
        _check_names(records)
    except _Wrong as wrong:
        raise DataError(f"{name}: {wrong}") from None
    if not records:
        raise DataError(f"{name}: holds no images")
    return records


class _Wrong(Exception):
    """A place in the JSON and what is wrong there."""


def _text(content: bytes, name: str) -> str:
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{name}: damaged gzip file ({error}); get it again") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{name}: not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start} (line {line}); "
            "convert it, for example: iconv -f gb18030 -t utf-8"
        ) from error


def _json(text: str, name: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not JSON: {error}") from error


def _records(data: object) -> Iterator[Record]:
    data = _expect(data, dict, "top level")
    if "images" in data:
        for i, image in enumerate(_expect(data["images"], list, "images")):
            yield _record(_expect(image, dict, f"images[{i}]"), f"images[{i}]", None)
        return
    for scene, images in data.items():
        if not isinstance(images, (list, dict)):
            raise _Wrong(f"expected a list under 'images' or lists under class names, got {_kind(images)} at {scene}")
        rows = images.items() if isinstance(images, dict) else enumerate(images)
        for key, image in rows:
            yield _record(_expect(image, dict, f"{scene}[{key}]"), f"{scene}[{key}]", scene)


def _record(image: Mapping[str, Any], at: str, scene: str | None) -> Record:
    if "filename" not in image:
        raise _Wrong(f"{at}: has no 'filename'; it has: {', '.join(sorted(image)) or 'nothing'}")
    filename = _expect(image["filename"], str, f"{at}.filename")
    captions = tuple(_clean(text, where) for text, where in _texts(image, at))
    if not captions:
        raise _Wrong(f"{at}: image '{filename}' has no captions")
    label = image.get("class", scene)
    parts = [_part(image.get(key), f"{at}.{key}") for key in _SPLIT_KEYS]
    return Record(filename, captions, parts[0], parts[1], None if label is None else str(label))


def _texts(image: Mapping[str, Any], at: str) -> Iterator[tuple[object, str]]:
    """Raw captions with their places."""
    if "sentences" in image:
        for j, sentence in enumerate(_expect(image["sentences"], list, f"{at}.sentences")):
            where = f"{at}.sentences[{j}]"
            owner = _expect(sentence, dict, where).get("imgid", image.get("imgid"))
            if "imgid" in image and owner != image["imgid"]:
                raise _Wrong(f"{where}: caption of unknown image: imgid {owner}, expected {image['imgid']}")
            if "raw" not in sentence:
                raise _Wrong(f"{where}: has no 'raw' text")
            yield sentence["raw"], f"{where}.raw"
    elif "captions" in image:
        for j, text in enumerate(_expect(image["captions"], list, f"{at}.captions")):
            yield text, f"{at}.captions[{j}]"
    else:
        for key in sorted((k for k in image if re.fullmatch(r"raw(_\d+)?", k)), key=lambda k: int(k[4:] or 0)):
            yield image[key], f"{at}.{key}"


def _clean(text: object, at: str) -> str:
    """Strip a caption; non-breaking spaces (NWPU) become spaces."""
    cleaned = _expect(text, str, at).replace("\u00a0", " ").strip()
    if not cleaned:
        raise _Wrong(f"{at}: empty caption")
    try:
        cleaned.encode()
    except UnicodeEncodeError:
        raise _Wrong(f"{at}: caption is not valid Unicode text (lone surrogate)") from None
    return cleaned


def _part(value: object, at: str) -> str | None:
    if value is None:
        return None
    name = _SPLIT_NAMES.get(_expect(value, str, at))
    if name is None:
        raise _Wrong(f"{at}: unknown split '{value}', expected {', '.join(PARTS)}")
    return name


def _check_names(records: list[Record]) -> None:
    seen: dict[str, int] = {}
    for i, record in enumerate(records):
        first = seen.setdefault(record.filename, i)
        if first != i:
            raise _Wrong(f"duplicated filename '{record.filename}' (images {first} and {i})")


def _expect(value: object, kind: type[T], at: str) -> T:
    if not isinstance(value, kind):
        raise _Wrong(f"{at}: expected {_NAMES[kind]}, got {_kind(value)}")
    return value


_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "text"}


def _kind(value: object) -> str:
    return type(value).__name__
