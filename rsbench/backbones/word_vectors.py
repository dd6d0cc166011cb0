"""Word vectors from a truncated SVD of co-occurrence within captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rsbench.backbones.words import words_of

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WordVectors:
    """V words, most frequent first.

    Attributes:
        words: V strings.
        vectors: ``[V, dim]``; columns beyond the rank are zero.
        idf: ``[V]``, log((1 + captions) / (1 + captions with the word)) + 1.
    """

    words: tuple[str, ...]
    vectors: Floats
    idf: Floats


def fit_word_vectors(captions: Sequence[str], dim: int, limit: int) -> WordVectors:
    """Factor the positive pointwise mutual information of words that share a caption.

    Deterministic: words in order of frequency, each singular vector with its largest entry positive.

    Args:
        captions: training captions.
        dim: of the vectors.
        limit: most words kept.
    """
    bags = [sorted(set(words_of(c))) for c in captions]
    counts = Counter(w for bag in bags for w in bag)
    words = tuple(sorted(counts, key=lambda w: (-counts[w], w))[:limit])
    index = {w: i for i, w in enumerate(words)}
    presence = np.zeros((len(bags), len(words)))
    for row, bag in enumerate(bags):
        presence[row, [index[w] for w in bag if w in index]] = 1.0
    vectors = np.zeros((len(words), dim))
    left, values, _ = np.linalg.svd(_ppmi(presence))
    kept = min(dim, len(words))
    basis = left[:, :kept] * np.sign(left[np.abs(left[:, :kept]).argmax(axis=0), np.arange(kept)])
    vectors[:, :kept] = basis * np.sqrt(values[:kept])
    idf = np.log((1 + len(bags)) / (1 + presence.sum(axis=0))) + 1
    return WordVectors(words, vectors, idf)


def _ppmi(presence: Floats) -> Floats:
    """Positive PMI ``[V, V]`` of words in captions ``[n, V]``; the diagonal counts a word with itself."""
    together = presence.T @ presence
    single = presence.sum(axis=0)
    with np.errstate(divide="ignore"):
        pmi = np.log(together * len(presence) / np.outer(single, single))
    return np.maximum(pmi, 0.0)
