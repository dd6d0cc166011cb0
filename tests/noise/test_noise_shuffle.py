"""Properties of generated lists."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsbench.errors import NoiseError, UnknownNameError, UsageError
from rsbench.noise.index import NoiseIndex, NoiseSpec, mismatched_pairs, realised
from rsbench.noise.inspect import summarise
from rsbench.noise.make import make_index, resolve_source
from rsbench.registry import NOISE_KINDS, Entry

COUNTS = st.lists(st.integers(1, 6), min_size=2, max_size=12)
RATES = st.floats(0, 0.999)
UNITS = st.sampled_from(["caption", "image"])


def spec(rate: float = 0.4, unit: str = "caption", seed: int = 42, **rest: str) -> NoiseSpec:
    return NoiseSpec(rate=rate, unit=unit, seed=seed, **rest)


@given(COUNTS, RATES, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_caption_unit_keeps_both_columns_as_multisets(build, counts, rate, seed) -> None:
    data = build(counts)
    clean, shown = data.pairs("official", "train"), make_index(data, "official", spec(rate, seed=seed)).pairs
    assert shown[:, 0].tolist() == clean[:, 0].tolist()
    assert sorted(shown[:, 1].tolist()) == sorted(clean[:, 1].tolist())
    assert int((shown != clean).any(axis=1).sum()) <= int(rate * len(clean))


@given(COUNTS, RATES, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_image_unit_moves_whole_slots(build, counts, rate, seed) -> None:
    data = build(counts)
    clean, shown = data.pairs("official", "train"), make_index(data, "official", spec(rate, "image", seed)).pairs
    assert shown[:, 1].tolist() == clean[:, 1].tolist()
    placed: dict[int, set[int]] = {}
    for own, given_image in zip(clean[:, 0].tolist(), shown[:, 0].tolist(), strict=True):
        placed.setdefault(own, set()).add(given_image)
    assert all(len(p) == 1 for p in placed.values())
    assert sorted(p.pop() for p in map(set, placed.values())) == sorted(placed)
    assert sum(placed[i] != {i} for i in placed) <= int(rate * len(counts))
    if len(set(counts)) == 1:
        assert Counter(shown[:, 0].tolist()) == Counter(clean[:, 0].tolist())


@given(COUNTS, UNITS, st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_rate_zero_is_the_clean_list(build, counts, unit, seed) -> None:
    data = build(counts)
    assert np.array_equal(make_index(data, "official", spec(0.0, unit, seed)).pairs, data.pairs("official", "train"))


@given(COUNTS, st.integers(1, 9), RATES, UNITS)
@settings(max_examples=40, deadline=None)
def test_realised_shares_agree_with_a_plain_loop(build, counts, texts, rate, unit) -> None:
    data = build(counts, texts=texts)
    index = make_index(data, "official", spec(rate, unit))
    moved = foreign = 0
    wrong, per_image = [], Counter()
    for (image, caption), (own_image, own_caption) in zip(
        index.pairs.tolist(), data.pairs("official", "train").tolist(), strict=True
    ):
        own_texts = {t for t, i in zip(data.captions, data.caption_image.tolist(), strict=True) if i == image}
        wrong.append(data.captions[caption] not in own_texts)
        per_image[image] += wrong[-1]
        foreign += data.caption_image[caption] != image
        moved += (image, caption) != (own_image, own_caption)
    got, n = realised(data, index), len(wrong)
    assert mismatched_pairs(data, index.pairs).tolist() == wrong
    assert (got.moved, got.foreign, got.mismatched) == pytest.approx((moved / n, foreign / n, sum(wrong) / n))
    summary = summarise(data, index)
    assert summary.noisy_images == sum(k > 0 for k in per_image.values())
    histogram = Counter(per_image.values())
    assert list(summary.noisy_per_image) == [histogram[k] for k in range(len(summary.noisy_per_image))]
    assert sum(summary.noisy_per_image) == len(per_image) == summary.images


@pytest.mark.parametrize("unit", ["caption", "image"])
def test_same_spec_same_list_and_every_named_part_matters(build, unit) -> None:
    data = build([5] * 40)
    first = make_index(data, "official", spec(unit=unit))
    assert first.sha256 == make_index(data, "official", spec(unit=unit)).sha256
    others = [
        make_index(data, "official", spec(unit=unit, seed=43)),
        make_index(data, "official", spec(0.41, unit)),
        make_index(replace(data, fingerprint="another copy"), "official", spec(unit=unit)),
        make_index(replace(data, splits={"second": data.splits["official"]}), "second", spec(unit=unit)),
    ]
    assert len({first.sha256, *(o.sha256 for o in others)}) == 5


def test_the_bytes_of_a_list_never_change(build) -> None:
    data = build([5] * 8)
    shas = [make_index(data, "official", spec(0.4, u)).sha256[:16] for u in ("caption", "image")]
    assert shas == ["4547db9ae573a05f", "42b60cc42b6eb56c"]


def test_all_chosen_units_are_equally_likely_to_be_chosen(build) -> None:
    data = build([1] * 20)
    hits = np.zeros(20)
    for seed in range(400):
        hits += (make_index(data, "official", spec(0.5, seed=seed)).pairs != data.pairs("official", "train"))[:, 1]
    assert hits.min() > 140
    assert hits.max() < 220


def test_kind_none_is_clean_and_takes_no_rate(build) -> None:
    data = build([2, 3])
    index = make_index(data, "official", spec(0.0, kind="none"))
    assert np.array_equal(index.pairs, data.pairs("official", "train"))
    with pytest.raises(UsageError, match="leaves all pairs in place"):
        make_index(data, "official", spec(0.2, kind="none"))


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, math.nan, math.inf])
def test_rates_outside_the_interval_are_refused(build, rate) -> None:
    with pytest.raises(UsageError, match=r"outside \[0, 1\)"):
        make_index(build([2, 2]), "official", spec(rate))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("unit", "captions", "unknown noise unit 'captions'; did you mean caption"),
        ("source", "offical", "unknown noise source 'offical'; did you mean official"),
        ("kind", "shufle", "unknown noise kind 'shufle'; did you mean shuffle"),
    ],
)
def test_unknown_words_name_their_neighbours(build, field, value, message) -> None:
    with pytest.raises(UnknownNameError) as caught:
        make_index(build([2, 2]), "official", replace(spec(), **{field: value}))
    assert message in str(caught.value)


def test_unknown_split_is_refused(build) -> None:
    with pytest.raises(UsageError, match="has no split 'karpathy'"):
        make_index(build([2, 2]), "karpathy", spec())


def test_an_index_cannot_be_written_to(build) -> None:
    pairs = make_index(build([2, 2]), "official", spec()).pairs
    with pytest.raises(ValueError, match="read-only"):
        pairs[0, 0] = 1


def broken_kind(dataset, split, spec):
    del spec
    return dataset.pairs(split, "train")[:-1]


def test_a_foreign_kind_must_return_one_row_per_pair(build, monkeypatch) -> None:
    monkeypatch.setitem(NOISE_KINDS._entries, "broken", Entry("broken", "m:f", ""))
    monkeypatch.setattr("rsbench.registry.resolve", lambda target: broken_kind)
    with pytest.raises(NoiseError, match=r"'broken' returned int64 \[3, 2\] instead of int64 \[4, 2\]"):
        make_index(build([2, 2]), "official", spec(kind="broken"))


def test_hash_is_that_of_little_endian_rows(build) -> None:
    import hashlib
    import struct

    index = NoiseIndex(spec(), "unit", "f", "official", np.array([[1, 2], [3, 4]], dtype=">i8").astype(np.int64))
    assert index.sha256 == hashlib.sha256(struct.pack("<4q", 1, 2, 3, 4)).hexdigest()


@pytest.mark.parametrize(("unit", "drawn"), [("caption", 60_000), ("image", 60_000)])
def test_large_training_parts_move_what_was_drawn(build, unit, drawn) -> None:
    data = build([5] * 30_000)
    moved = (make_index(data, "official", spec(unit=unit)).pairs != data.pairs("official", "train")).any(axis=1).sum()
    assert drawn - 60 <= moved <= drawn, "a permutation has few fixed points"


def test_resolve_source_without_a_card_list_is_generated() -> None:
    from rsbench.data.card import DatasetCard

    card = DatasetCard("mine", "Mine", "m:f", 8, ("official",), "toy", "heads")
    assert resolve_source(card, "official", "shuffle", "caption", 0.4, None) == "generated"
    assert resolve_source(card, "official", "shuffle", "caption", 0.4, "file:x") == "file:x"
    with pytest.raises(UsageError, match="no official noise list is known for 'mine'"):
        resolve_source(card, "official", "shuffle", "caption", 0.4, "official")
    with pytest.raises(UnknownNameError, match="unknown noise source 'web'"):
        resolve_source(card, "official", "shuffle", "caption", 0.4, "web")
