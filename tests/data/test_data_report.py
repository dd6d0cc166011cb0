from __future__ import annotations

import random
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from rsbench.data.captions import Record, parse_captions
from rsbench.data.dataset import Dataset
from rsbench.data.report import count_part, t2i_bound


def dataset(captions: list[list[str]]) -> Dataset:
    """Image i has the captions ``captions[i]``."""
    n = len(captions)
    return Dataset(
        name="unit",
        fingerprint="f",
        images=np.zeros((n, 1, 1, 3), np.uint8),
        images_hash="h",
        filenames=tuple(map(str, range(n))),
        captions=tuple(c for of in captions for c in of),
        caption_image=np.repeat(np.arange(n), [len(c) for c in captions]),
        image_class=np.full(n, -1),
        classes=(),
        splits={},
    )


def best_recall(captions: list[list[str]], k: int) -> float:
    """Tries every ranking of every text."""
    rows = [(text, i) for i, of in enumerate(captions) for text in of]
    hits = 0
    for text in {t for t, _ in rows}:
        targets = [i for t, i in rows if t == text]
        hits += max(sum(i in order[:k] for i in targets) for order in permutations(range(len(captions))))
    return 100 * hits / len(rows)


@pytest.mark.parametrize("seed", range(5))
def test_bound_is_what_the_best_of_all_rankings_reaches(seed: int) -> None:
    rng = random.Random(seed)
    captions = [[rng.choice("abcd") for _ in range(rng.randint(1, 4))] for _ in range(6)]
    bound = t2i_bound(dataset(captions), np.arange(6))
    assert bound["R@1"] == pytest.approx(best_recall(captions, 1), abs=1e-9)
    assert bound["R@5"] == pytest.approx(best_recall(captions, 5), abs=1e-9)


def test_bound_and_counts_look_at_the_given_images_only() -> None:
    data = dataset([["a", "a", "b"], ["a"], ["c", "b"], ["b"]])
    assert t2i_bound(data, np.array([0, 2]))["R@1"] == pytest.approx(80.0)
    part = count_part(data, np.array([0, 2]))
    assert (part.images, part.captions, part.distinct, part.repeating, part.shared) == (2, 5, 3, 1, 2)


@pytest.mark.parametrize(
    ("file", "want"),
    [
        ("rsitmd.json", (99.87, 100.00, 100.00)),
        ("rsicd.json.gz", (93.12, 99.19, 99.78)),
        ("ucm_captions.json", (38.29, 84.76, 100.00)),
    ],
)
def test_bounds_of_the_real_test_sets(shared: Path, file: str, want: tuple[float, ...]) -> None:
    data, records = _real(shared, file)
    test = np.array([i for i, r in enumerate(records) if r.split == "test"])
    assert tuple(round(v, 2) for v in t2i_bound(data, test).values()) == want


def test_duplicates_of_rsicd(shared: Path) -> None:
    data, records = _real(shared, "rsicd.json.gz")
    train = count_part(data, np.array([i for i, r in enumerate(records) if r.split != "test"]))
    test = count_part(data, np.array([i for i, r in enumerate(records) if r.split == "test"]))
    assert (train.repeating, train.distinct, test.repeating) == (9_167, 15_097, 1_030)
    assert (round(100 * train.shared / train.captions, 1), round(100 * test.shared / test.captions, 1)) == (41.2, 11.7)


def _real(shared: Path, file: str) -> tuple[Dataset, list[Record]]:
    records = parse_captions((shared / "captions" / file).read_bytes(), file)
    return dataset([list(r.captions) for r in records]), records
