"""Word vectors from a local file in GloVe's text format: a word and its numbers, separated by spaces, on each line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from rsbench.errors import WeightsError
from rsbench.progress import Progress, silent

_WAY_OUT = "give one in GloVe's text format with --set backbone.glove=FILE, or leave the setting out"
_STEP = 50_000


def read_glove(file: Path, words: Collection[str], width: int, progress: Progress = silent) -> dict[str, Tensor]:
    """Vectors fp32 ``[width]`` of those of ``words`` that the file has.

    Raises:
        WeightsError: no such file, a line that does not hold a word and ``width`` numbers, or none of the words.
    """
    if not file.is_file():
        raise WeightsError(f"word vectors '{file}' are no file; {_WAY_OUT}")
    found: dict[str, Tensor] = {}
    wanted, read, total = set(words), 0, file.stat().st_size
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            read += len(line)
            word, vector = _parsed(line, number, file.name, width, wanted)
            if vector is not None:
                found.setdefault(word, vector)
            if number % _STEP == 0:
                progress("word vectors", read, total)
    if not found:
        raise WeightsError(f"{file.name} has none of the {len(wanted)} words of the training captions; {_WAY_OUT}")
    return found


def _parsed(line: bytes, number: int, name: str, width: int, wanted: set[str]) -> tuple[str, Tensor | None]:
    """The word of a line, and its vector where the word is wanted."""
    word, *numbers = line.decode("utf-8", errors="replace").rstrip().split(" ")
    if number == 1 and len(numbers) == 1 and numbers[0] == str(width):
        return word, None  # word2vec's text format leads with the number of words and the width
    # a few words of the largest files hold spaces, so that later lines may be longer
    if len(numbers) < width or (number == 1 and len(numbers) != width):
        raise WeightsError(f"{name}, line {number}: {len(numbers)} numbers after the word, not {width}; {_WAY_OUT}")
    if len(numbers) > width or word not in wanted:
        return word, None
    try:
        return word, torch.tensor([float(v) for v in numbers])
    except ValueError:
        raise WeightsError(f"{name}, line {number}: '{word}' is not followed by numbers; {_WAY_OUT}") from None
