"""The feature cache: one computation, resumed after a kill, never trusting a damaged file."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rsbench.backbones.cache import cached, cached_rows, digest, texts_hash
from rsbench.errors import DataError

KEY = {"what": "features", "a": 1}


class Counter:
    """Computes rows 10 * row + column and remembers how often it was asked."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.calls: list[tuple[int, int]] = []
        self.fail_at = fail_at

    def __call__(self, start: int, stop: int) -> dict[str, Tensor]:
        if self.fail_at is not None and start >= self.fail_at:
            raise KeyboardInterrupt
        self.calls.append((start, stop))
        rows = torch.arange(start, stop)
        return {"x": (10.0 * rows)[:, None] + torch.arange(3), "y": rows.to(torch.int8)}


EXPECTED = [[10.0 * r + c for c in range(3)] for r in range(7)]


def test_computes_once_and_maps_afterwards(tmp_path: Path) -> None:
    counter, shown = Counter(), []
    for _ in range(3):
        found = cached_rows(tmp_path, KEY, 7, counter, chunk=3, progress=lambda *a: shown.append(a))
        assert found["x"].tolist() == EXPECTED
        assert found["y"].dtype == torch.int8
    assert counter.calls == [(0, 3), (3, 6), (6, 7)]
    assert shown == [("features", 3, 7), ("features", 6, 7), ("features", 7, 7)]


def test_other_key_or_number_of_rows_is_another_entry(tmp_path: Path) -> None:
    counter = Counter()
    cached_rows(tmp_path, KEY, 7, counter)
    cached_rows(tmp_path, {**KEY, "a": 2}, 7, counter)
    assert len(cached_rows(tmp_path, KEY, 5, counter)["x"]) == 5
    assert len(counter.calls) == 3


def test_names_loads_only_those(tmp_path: Path) -> None:
    assert set(cached_rows(tmp_path, KEY, 7, Counter(), names=("x",))) == {"x"}


def test_killed_computation_goes_on_at_its_last_chunk(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached_rows(tmp_path, KEY, 7, Counter(fail_at=4), chunk=2)
    second = Counter()
    assert cached_rows(tmp_path, KEY, 7, second, chunk=2)["x"].tolist() == EXPECTED
    assert second.calls == [(4, 6), (6, 7)]


@pytest.mark.parametrize("state", ["", "{}", '{"done": 2, "names": ["z"]}', '{"done": 2, "names": ["x"]'])
def test_unreadable_partial_state_starts_afresh(tmp_path: Path, state: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached_rows(tmp_path, KEY, 7, Counter(fail_at=4), chunk=2)
    (tmp_path / f"{digest(KEY)}.part" / "state.json").write_text(state)
    second = Counter()
    assert cached_rows(tmp_path, KEY, 7, second, chunk=7)["x"].tolist() == EXPECTED
    assert second.calls == [(0, 7)]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 255
    path.write_bytes(raw)


@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink])
def test_damaged_array_is_computed_again(tmp_path: Path, damage) -> None:
    cached_rows(tmp_path, KEY, 7, Counter())
    damage(tmp_path / digest(KEY) / "x.npy")
    second = Counter()
    assert cached_rows(tmp_path, KEY, 7, second)["x"].tolist() == EXPECTED
    assert second.calls == [(0, 7)]


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"rows": 7, "files": {"x": {}}})])
def test_damaged_record_is_computed_again(tmp_path: Path, text: str) -> None:
    cached_rows(tmp_path, KEY, 7, Counter())
    (tmp_path / digest(KEY) / "entry.json").write_text(text)
    assert cached_rows(tmp_path, KEY, 7, Counter())["x"].tolist() == EXPECTED


def test_cached_keeps_shapes_of_a_few_tensors(tmp_path: Path) -> None:
    values = {"mean": torch.tensor([1.5, 2.5]), "n": torch.tensor(3)}
    for compute in (lambda: values, lambda: pytest.fail("computed twice")):
        found = cached(tmp_path, KEY, compute)
        assert found["mean"].tolist() == [1.5, 2.5] and found["n"].item() == 3


def test_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the feature cache"):
        cached_rows(tmp_path / "file" / "features", KEY, 7, Counter())


def test_texts_hash_sees_borders() -> None:
    assert texts_hash(["ab", "c"]) != texts_hash(["a", "bc"]) != texts_hash(["abc"])


def _slow(folder: str, log: str) -> None:
    def compute(start: int, stop: int) -> dict[str, Tensor]:
        with open(log, "a") as file:
            file.write("x")
        time.sleep(0.3)
        return {"x": torch.ones(stop - start)}

    assert cached_rows(Path(folder), KEY, 2, compute)["x"].tolist() == [1, 1]


def test_two_processes_compute_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_slow, args=(str(tmp_path / "c"), str(log))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [w.exitcode for w in workers] == [0, 0]
    assert log.read_text() == "x"
