"""Imported lists: kept, found again, and refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from rsbench.errors import NoiseError, UnknownNameError, UsageError
from rsbench.noise.imported import import_index, store_index
from rsbench.noise.index import NoiseSpec
from rsbench.noise.make import make_index

SPEC = NoiseSpec(source="file:mine")


@pytest.fixture
def data(build):
    return build([5] * 4)


@pytest.fixture
def stored(data, tmp_path):
    np.save(tmp_path / "their.npy", [1, 0, 2, 3])
    index = import_index(data, "official", tmp_path / "their.npy", name="mine")
    store_index(tmp_path, "mine", index)
    return index


def test_kind_unit_and_rate_come_from_the_file(data, tmp_path, stored) -> None:
    again = make_index(data, "official", replace(SPEC, rate=0.9, seed=3), tmp_path)
    assert again.spec == NoiseSpec("shuffle", "image", 0.5, "file:mine", 3)
    assert again.sha256 == stored.sha256
    assert not again.pairs.flags.writeable


def test_an_equal_list_may_be_stored_again_another_may_not(data, tmp_path, stored) -> None:
    path = store_index(tmp_path, "mine", stored)
    before = path.read_bytes()
    other = make_index(data, "official", NoiseSpec(rate=0.5))
    with pytest.raises(NoiseError, match="'mine' is the name of another list"):
        store_index(tmp_path, "mine", other)
    assert path.read_bytes() == before


def test_absent_names_show_the_known_ones(data, tmp_path, stored) -> None:
    with pytest.raises(UnknownNameError, match=r"'minr'; did you mean mine\?.*--import FILE --name minr"):
        make_index(data, "official", NoiseSpec(source="file:minr"), tmp_path)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b"])
def test_names_cannot_leave_the_folder(data, tmp_path, stored, name) -> None:
    with pytest.raises(UsageError, match="is no name for a noise list"):
        store_index(tmp_path, name, stored)
    with pytest.raises(UsageError, match="is no name for a noise list"):
        make_index(data, "official", NoiseSpec(source=f"file:{name}"), tmp_path)


@pytest.mark.parametrize(
    ("change", "split", "message"),
    [
        ({"name": "other"}, "official", "was imported for dataset 'unit', not 'other'"),
        ({"fingerprint": "new"}, "official", "was imported for fingerprint 'f4', not 'new'"),
        ({}, "second", "was imported for split 'official', not 'second'"),
    ],
)
def test_a_list_of_other_data_is_refused(data, tmp_path, stored, change, split, message) -> None:
    other = replace(data, splits={split: data.splits["official"]}, **change)
    with pytest.raises(NoiseError, match=message):
        make_index(other, split, SPEC, tmp_path)


def test_damage_is_noticed(data, tmp_path, stored) -> None:
    path = tmp_path / "noise" / "mine.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(NoiseError, match="is damaged"):
        make_index(data, "official", SPEC, tmp_path)
    path.write_bytes(whole[:-8] + b"\x01" + whole[-7:])
    with pytest.raises(NoiseError, match="sha256 differs"):
        make_index(data, "official", SPEC, tmp_path)
    save_file({"pairs": stored.pairs.copy()}, path)
    with pytest.raises(NoiseError, match="was not written by rsbench noise"):
        make_index(data, "official", SPEC, tmp_path)
