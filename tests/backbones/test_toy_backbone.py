"""The toy backbone: word vectors, tokens, and what a checkpoint carries."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rsbench.backbones.base import CONTENT, PAD
from rsbench.backbones.toy import WORDS, Toy
from rsbench.backbones.word_vectors import fit_word_vectors
from rsbench.data.dataset import Dataset
from rsbench.data.lifecycle import open_dataset

PARAMS = {"hidden": 16, "dim": 8, "dropout": 0.0, "pca": 0}
CAPTIONS = ["a red car .", "a red car and a house", "two blue tents", "a blue house", "one river"]


@pytest.fixture(scope="module")
def dataset(data_root: Path) -> Dataset:
    return open_dataset("toy", data_root)


def naive_ppmi(captions: list[str], words: tuple[str, ...]) -> list[list[float]]:
    bags = [{w.strip(".") for w in c.split()} - {""} for c in captions]
    table = []
    for a in words:
        row = []
        for b in words:
            both = sum(a in bag and b in bag for bag in bags)
            alone = sum(a in bag for bag in bags) * sum(b in bag for bag in bags)
            row.append(max(0.0, math.log(both * len(bags) / alone)) if both else 0.0)
        table.append(row)
    return table


def test_word_vectors_are_a_truncated_svd_of_positive_pmi() -> None:
    found = fit_word_vectors(CAPTIONS, dim=3, limit=50)
    table = np.array(naive_ppmi(CAPTIONS, found.words))
    values, vectors = np.linalg.eigh(table @ table.T)
    best = (vectors[:, -3:] * values[-3:] ** 0.5) @ vectors[:, -3:].T
    assert np.allclose(found.vectors @ found.vectors.T, best, atol=1e-8)
    assert found.words[0] == "a", "words come by frequency"
    where = found.words.index("river")
    assert found.idf[where] == pytest.approx(math.log(6 / 2) + 1)


def test_word_vectors_do_not_depend_on_the_order_of_captions() -> None:
    a, b = fit_word_vectors(CAPTIONS, 4, 50), fit_word_vectors(CAPTIONS[::-1], 4, 50)
    assert a.words == b.words
    assert np.allclose(a.vectors @ a.vectors.T, b.vectors @ b.vectors.T)


def test_more_dimensions_than_words_leave_zeros() -> None:
    found = fit_word_vectors(["a b"], dim=5, limit=50)
    assert found.vectors.shape == (2, 5)
    assert not found.vectors[:, 2:].any()


def test_pooled_text_is_the_tf_idf_mean_of_its_tokens(dataset: Dataset, data_root: Path) -> None:
    backbone = Toy("heads", "bundled", 0, **PARAMS)
    backbone.fit(dataset, "official", data_root / "features")
    raw = backbone.text_features(["two red cars on a zeppelin", "zeppelin", "two two red"])
    assert raw.tokens is not None and raw.kind is not None
    assert raw.tokens.shape == (3, WORDS, 64)
    assert (raw.kind == CONTENT).sum(dim=1).tolist() == [5, 0, 3], "unknown words are skipped"
    assert not raw.pooled[1].any()
    assert (raw.kind[1] == PAD).all()
    two, red = raw.tokens[2, 0], raw.tokens[2, 2]
    known = {int(h): i for i, h in enumerate(backbone.words) if h >= 0}
    from rsbench.backbones.words import word_hash

    w_two, w_red = (float(backbone.idf[known[word_hash(w)]]) for w in ("two", "red"))
    assert torch.allclose(raw.pooled[2], (2 * w_two * two + w_red * red) / (2 * w_two + w_red), atol=1e-6)


def test_image_tokens_are_a_map_and_pooled_is_its_mean(dataset: Dataset) -> None:
    raw = Toy("heads", "bundled", 0, **PARAMS).image_features(dataset.images[:3])
    assert raw.tokens is not None
    assert raw.tokens.shape == (3, 36, 128)
    assert torch.allclose(raw.pooled, raw.tokens.mean(dim=1), atol=1e-6)


def test_features_tell_land_covers_apart(dataset: Dataset) -> None:
    """The shipped net is trained: a nearest neighbour among 400 scenes shares the land cover."""
    pooled = Toy("heads", "bundled", 0, **PARAMS).image_features(dataset.images[:400]).pooled
    pooled = torch.nn.functional.normalize(pooled - pooled.mean(0), dim=1)
    nearest = (pooled @ pooled.T).fill_diagonal_(-1).argmax(dim=1).numpy()
    labels = dataset.image_class[:400]
    assert (labels[nearest] == labels).mean() > 0.6


def test_noise_does_not_change_the_features(dataset: Dataset, data_root: Path) -> None:
    """Fitted on the captions as a set of sentences: nothing in ``fit`` sees which image shows which."""
    a, b = Toy("heads", "bundled", 0, **PARAMS), Toy("heads", "bundled", 1, **PARAMS)
    a.fit(dataset, "official", data_root / "features")
    b.fit(dataset, "official", data_root / "features")
    assert a.tower_key("text") == b.tower_key("text")
    assert torch.equal(a.vectors, b.vectors)
