"""Text tower of word vectors and a GRU that reads both ways."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rsbench.backbones.base import PAD
from rsbench.backbones.glove import read_glove
from rsbench.backbones.vocabulary import EXTRA_IDS, FIRST, PADDING, learn, no_words
from rsbench.errors import UnknownNameError, UsageError
from rsbench.progress import Progress, silent

POOLS = ("mean", "last")
_SPREAD = 0.1


class GruText(nn.Module):
    """Word ids to states: one layer in both directions, averaged (kuanghuei/SCAN model.py).

    A word's vector is a fixed start plus a trained offset. The start is zero, or a vector read from a file; it lies
    in a buffer, so that a checkpoint needs no such file. Padding changes nothing: the backward direction starts at
    the last word of each text.

    Args:
        vocabulary: number of words known.
        width: of the word vectors.
        hidden: W of the states.
        dropout: on the word vectors.
        fixed_start: offsets begin at zero, because a start is going to be read.

    Raises:
        UsageError: a size below 1, or a dropout that is no share.
    """

    words: Tensor
    start: Tensor

    def __init__(self, vocabulary: int, width: int, hidden: int, dropout: float, fixed_start: bool) -> None:
        super().__init__()
        _check(vocabulary=vocabulary, width=width, hidden=hidden, dropout=dropout)
        self.register_buffer("words", no_words(vocabulary))
        self.register_buffer("start", torch.zeros(vocabulary + EXTRA_IDS, width))
        self.offset = nn.Embedding(vocabulary + EXTRA_IDS, width, padding_idx=PADDING)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        with torch.no_grad():
            self.offset.weight.uniform_(-_SPREAD, _SPREAD)[PADDING] = 0
            if fixed_start:
                self.offset.weight.zero_()

    def learn(self, words: list[str], vectors: str = "", progress: Progress = silent) -> None:
        """Take over a vocabulary, commonest word first, and the words' vectors from a file where one is named.

        Words that the file lacks start at small random numbers, the same for every run seed.

        Raises:
            WeightsError: the file is missing, or not of this width.
        """
        learn(self.words, words)
        if not vectors:
            return
        kept = words[: len(self.words)]
        found = read_glove(Path(vectors), kept, self.start.shape[1], progress)
        self.start.uniform_(-_SPREAD, _SPREAD, generator=torch.Generator(self.start.device).manual_seed(0))
        self.start[PADDING] = 0
        for place, word in enumerate(kept):
            if word in found:
                self.start[place + FIRST] = found[word]

    def facts(self) -> dict[str, Any]:
        """Hashes of the vocabulary, and of the vectors that its words start from."""
        buffers = {"words_sha256": self.words, "word_vectors_sha256": self.start}
        return {k: hashlib.sha256(v.cpu().numpy().tobytes()).hexdigest() for k, v in buffers.items()}

    def forward(self, ids: Tensor) -> Tensor:
        """States ``[B, L, hidden]`` of ids int64 ``[B, L]``, zero at padding."""
        vectors = self.dropout(functional.embedding(ids, self.start) + self.offset(ids))
        lengths = (ids != PADDING).sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
        both, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=ids.shape[1])
        forward, backward = both.chunk(2, dim=-1)
        return (forward + backward) / 2


def _check(*, dropout: float, **sizes: int) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise UsageError(f"backbone.{name}={value} must be 1 or more")
    if not 0 <= dropout < 1:
        raise UsageError(f"backbone.dropout={dropout} must be from 0 to below 1")


def check_pool(pool: str) -> str:
    """The pooling, or an error that names the known ones.

    Raises:
        UnknownNameError: no such pooling.
    """
    if pool not in POOLS:
        raise UnknownNameError("pooling of words", pool, POOLS, "set it with --set backbone.pool=")
    return pool


def pooled_words(found: Tensor, kind: Tensor, pool: str) -> Tensor:
    """``[B, D]`` from tokens ``[B, L, D]``: mean of those that are no padding, or the last of them."""
    shown = kind != PAD
    if pool == "last":
        last = shown.sum(dim=1).clamp(min=1) - 1
        return found[torch.arange(len(found), device=found.device), last]
    weight = shown[..., None].to(found.dtype)
    return (found * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
