"""``regions``: features of detected regions and a GRU over words."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsbench.backbones.base import Backbone, Features, Fields, Inputs
from rsbench.backbones.cards.towers import REGIONS
from rsbench.backbones.gru_text import GruText, check_pool, pooled_words
from rsbench.backbones.seeded import seeded_init
from rsbench.backbones.vocabulary import id_kinds, training_words, trimmed, word_ids
from rsbench.data.dataset import Dataset
from rsbench.errors import DataError, UsageError
from rsbench.progress import Progress, silent

_NO_WORDS = ("<pad>", "<start>", "<end>", "<unk>")


class RegionsGru(Backbone):
    """Regions through one linear layer, words through a GRU in both directions; all tokens have length one.

    The inputs of kuanghuei/SCAN and Paranioar/SGRAF. Image: tokens = regions, pooled = their mean. Text: start, words
    and end; pooled = their mean (the query of SGRAF's global vector) or the last of them. The detector is not trained,
    its features come with the dataset.

    Args:
        tuning: ``full``.
        weights: ``random``.
        seed: of the initialisation.
        dim: of the joint space, and of the GRU's states.
        features: W of the region features.
        width: of the word vectors.
        words: of a caption that are read, start and end included.
        vocabulary: number of words known at most: the commonest of the training captions.
        dropout: on the word vectors (SGRAF: 0.4).
        pool: of words, ``mean`` or ``last``.
        glove: file of word vectors to start from; empty for random ones.
        words_file: vocabulary of SCAN or NCR (JSON with ``word2idx``) to be used in place of the training captions'.

    Raises:
        UnknownNameError: no such pooling.
        UsageError: a size that is none.
    """

    card = REGIONS

    def __init__(
        self,
        tuning: str,
        weights: str,
        seed: int,
        *,
        dim: int,
        features: int,
        width: int,
        words: int,
        vocabulary: int,
        dropout: float,
        pool: str,
        glove: str,
        words_file: str,
    ) -> None:
        super().__init__()
        if words < 3:
            raise UsageError(f"backbone.words={words} must be 3 or more: start and end count too")
        self.tuning, self.weights, self.dim, self.features, self.words = tuning, weights, dim, features, words
        self.pool, self.glove, self.words_file = check_pool(pool), glove, words_file
        with seeded_init(seed):
            self.image_head = nn.Linear(features, dim)
            nn.init.xavier_uniform_(self.image_head.weight)
            nn.init.zeros_(self.image_head.bias)
            self.text_tower = GruText(vocabulary, width, dim, dropout, fixed_start=bool(glove))

    def fit(self, dataset: Dataset, split: str, cache: Path, progress: Progress = silent) -> None:
        """Learn the vocabulary from the captions of the training images, or read it; then the word vectors."""
        del cache
        room = len(self.text_tower.words)
        words = read_words(Path(self.words_file), room) if self.words_file else training_words(dataset, split)
        self.text_tower.learn(words, self.glove, progress)

    def inputs(self, dataset: Dataset, cache: Path, tokens: bool = False, progress: Progress = silent) -> Inputs:
        """Region features of the store, and ids of every distinct text, cut to the longest of them.

        Raises:
            DataError: the dataset has no region features, or of another width.
        """
        del cache, tokens, progress
        ids = trimmed(word_ids(self.text_tower.words, dataset.texts, self.words, ends=True))
        return Inputs({"regions": _regions(dataset, self.features)}, {"ids": ids})

    def encode_image(self, x: Fields) -> Features:
        """Features of ``regions [B, R, W]``; all are content."""
        return self.project_image(*self.image_states(x))

    def encode_text(self, x: Fields) -> Features:
        """Features of word ids ``ids [B, L]``; start and end are special."""
        return self.project_text(*self.text_states(x))

    def image_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """The region features themselves."""
        hidden = x["regions"].float()
        return hidden, torch.zeros(hidden.shape[:2], dtype=torch.int8, device=hidden.device)

    def text_states(self, x: Fields) -> tuple[Tensor, Tensor]:
        """States of start, words and end."""
        return self.text_tower(x["ids"]), id_kinds(self.text_tower.words, x["ids"])

    def project_image(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """Projection of the regions to unit vectors; pooled = their mean."""
        found = functional.normalize(self.image_head(hidden), dim=-1)
        pooled = found.mean(dim=1)
        return Features(pooled, found, kind, hidden) if tokens else Features(pooled)

    def project_text(self, hidden: Tensor, kind: Tensor, tokens: bool = True) -> Features:
        """States as unit vectors."""
        found = functional.normalize(hidden, dim=-1)
        pooled = pooled_words(found, kind, self.pool)
        return Features(pooled, found, kind, hidden) if tokens else Features(pooled)

    def width(self, modality: str) -> int:
        """W of the region features, or of the word states."""
        return self.features if modality == "image" else self.dim

    def facts(self) -> dict[str, Any]:
        """Hashes of the vocabulary and of the word vectors."""
        return self.text_tower.facts()


def read_words(file: Path, room: int) -> list[str]:
    """Words of a vocabulary of SCAN in the order of their ids, without its four special ones.

    Args:
        file: JSON with ``word2idx``.
        room: number of words that the backbone can know.

    Raises:
        DataError: no such file, another format, or more words than there is room for.
    """
    form = "give the JSON of SCAN or NCR (an object 'word2idx': word -> number) with --set backbone.words_file=FILE"
    try:
        table = json.loads(file.read_text(encoding="utf-8"))["word2idx"]
        words = [w for w in sorted(table, key=lambda w: int(table[w])) if w not in _NO_WORDS]
    except OSError as error:
        raise DataError(f"vocabulary '{file}' cannot be read ({error.strerror}); {form}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"vocabulary {file.name} is not of the expected form; {form}") from None
    if len(words) > room:
        raise DataError(
            f"vocabulary {file.name} has {len(words)} words, the backbone knows {room}; "
            f"add --set backbone.vocabulary={len(words)}"
        )
    return words


def _regions(dataset: Dataset, width: int) -> Tensor:
    """``[N, R, W]`` over the store's memory.

    Raises:
        DataError: there are none, or of another width.
    """
    found = dataset.regions
    if found is None:
        raise DataError(
            f"dataset '{dataset.name}' has pixels and no region features, which backbone 'regions' reads; choose "
            "another with --backbone (see `rsbench list backbones`), or prepare a region package (docs: data)"
        )
    if found.shape[2] != width:
        raise DataError(
            f"dataset '{dataset.name}' has region features of width {found.shape[2]}, the backbone reads {width}; "
            f"add --set backbone.features={found.shape[2]}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns of read-only memory
        return torch.from_numpy(found)
