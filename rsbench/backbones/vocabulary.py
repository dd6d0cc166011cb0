"""A vocabulary of whole words in a buffer, and the ids of the words of a text.

The buffer holds 48-bit hashes, so that a checkpoint carries the vocabulary. Ids: 0 pads, 1 stands for unknown words,
the word in place i of the buffer has id i + 2; start and end, where asked for, have the two ids after the last word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rsbench.backbones.base import CONTENT, PAD, SPECIAL
from rsbench.backbones.words import word_hash, words_of
from rsbench.data.dataset import Dataset

PADDING, UNKNOWN, FIRST = 0, 1, 2
EXTRA_IDS = 4
"""Ids beside those of the words: padding, unknown, start, end."""


def no_words(size: int) -> Tensor:
    """An empty vocabulary of ``size`` places, int64."""
    return torch.full((size,), -1, dtype=torch.int64)


def training_words(dataset: Dataset, split: str) -> list[str]:
    """Words of the training images' own captions, commonest first, then by name."""
    own = np.flatnonzero(np.isin(dataset.caption_image, dataset.part(split, "train")))
    counts = Counter(word for i in own for word in words_of(dataset.captions[i]))
    return sorted(counts, key=lambda w: (-counts[w], w))


def learn(vocabulary: Tensor, words: Sequence[str]) -> None:
    """Fill a vocabulary in place with the first words that it has room for."""
    kept = words[: len(vocabulary)]
    vocabulary.fill_(-1)[: len(kept)] = torch.tensor([word_hash(w) for w in kept], dtype=torch.int64)


def word_ids(vocabulary: Tensor, texts: Sequence[str], length: int, ends: bool = False) -> Tensor:
    """Ids int64 ``[n, length]``; longer texts are cut, a text without a word is one unknown word.

    Args:
        vocabulary: of ``learn``.
        texts: n strings.
        length: ids in a row, start and end included.
        ends: put start and end around the words.
    """
    known = {h: i + FIRST for i, h in enumerate(vocabulary.tolist()) if h >= 0}
    start = len(vocabulary) + FIRST
    ids = torch.full((len(texts), length), PADDING, dtype=torch.int64)
    for row, text in enumerate(texts):
        words = words_of(text)[: length - 2 * ends]
        found = [known.get(word_hash(w), UNKNOWN) for w in words] or [UNKNOWN]
        found = [start, *found, start + 1] if ends else found
        ids[row, : len(found)] = torch.tensor(found)
    return ids


def id_kinds(vocabulary: Tensor, ids: Tensor) -> Tensor:
    """Kinds int8 of the shape of ``ids``: words are content, start and end special."""
    kind = torch.full(ids.shape, CONTENT, dtype=torch.int8, device=ids.device)
    return kind.masked_fill(ids >= len(vocabulary) + FIRST, SPECIAL).masked_fill(ids == PADDING, PAD)


def trimmed(ids: Tensor) -> Tensor:
    """Without the columns at the end that are padding in every row; at least one column stays."""
    longest = int((ids != PADDING).sum(dim=1).max()) if len(ids) else 0
    return ids[:, : max(longest, 1)].contiguous()
