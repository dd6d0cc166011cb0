"""Words of a caption, and names for them that are the same in every process."""

from __future__ import annotations

import re
import zlib

_WORD = re.compile(r"[a-z0-9]+")


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers, in order."""
    return _WORD.findall(text.lower())


def word_hash(word: str) -> int:
    """48 bits that fit a buffer, so that a checkpoint can carry a vocabulary."""
    raw = word.encode()
    return zlib.crc32(raw) << 16 | zlib.adler32(raw) & 0xFFFF
