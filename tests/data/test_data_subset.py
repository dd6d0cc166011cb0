from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rsbench.data.lifecycle import last_prepared, open_dataset, prepare, store_folder
from rsbench.data.parts import Parts
from rsbench.data.store import write_store

COUNTS = {"train": 2_400, "val": 350, "test": 120}


@pytest.fixture
def packed(root: Path) -> Path:
    """A root with an rsicd of 2,870 one-pixel images whose split order is not sorted."""
    n = sum(COUNTS.values())
    order = np.random.default_rng(0).permutation(n)
    cuts = np.cumsum(list(COUNTS.values()))[:-1]
    folder = store_folder(root, "rsicd")
    folder.mkdir(parents=True)
    split = dict(zip(COUNTS, np.split(order, cuts), strict=True))
    names = [f"{i}.jpg" for i in range(n)]
    images = np.arange(n * 3, dtype=np.int64).astype(np.uint8).reshape(n, 1, 1, 3)
    write_store(
        folder, Parts("rsicd", images, names, names, range(n), [], [-1] * n, {"rrsitr": split, "official": split})
    )
    return root


def test_the_subset_is_a_seeded_view_in_the_order_of_its_base(packed: Path) -> None:
    base, view = open_dataset("rsicd", packed), open_dataset("rsicd-2k", packed)
    assert list(view.splits) == ["rrsitr"]
    assert {p: len(i) for p, i in view.splits["rrsitr"].items()} == {"train": 2_000, "val": 300, "test": 120}
    for part, ids in view.splits["rrsitr"].items():
        chosen = set(ids.tolist())
        assert [i for i in base.splits["rrsitr"][part].tolist() if i in chosen] == ids.tolist()
    assert view.images_hash == base.images_hash and view.captions == base.captions
    assert view.name == "rsicd-2k" and view.fingerprint != base.fingerprint
    again = open_dataset("rsicd-2k", packed)
    assert again.fingerprint == view.fingerprint
    assert np.array_equal(again.splits["rrsitr"]["train"], view.splits["rrsitr"]["train"])


def test_the_draw_is_no_prefix(packed: Path) -> None:
    base, view = open_dataset("rsicd", packed), open_dataset("rsicd-2k", packed)
    rows = {int(i): row for row, i in enumerate(base.splits["rrsitr"]["train"])}
    mean = np.mean([rows[int(i)] for i in view.splits["rrsitr"]["train"]])
    assert mean == pytest.approx(1_200, abs=40)


def test_preparing_the_subset_reports_on_it(packed: Path) -> None:
    report = prepare("rsicd-2k", packed)
    assert (report.name, report.packed_now, last_prepared(packed)) == ("rsicd-2k", False, "rsicd-2k")
    assert report.splits["rrsitr"]["train"].images == 2_000
    assert replace(report, name="x").to_json()["folder"].endswith("rsicd")
