"""Kind ``pmp``: which captions are replaced by which, and what is kept of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsbench.errors import NoiseError, UnknownNameError, UsageError
from rsbench.noise.formats import write_pairs
from rsbench.noise.imported import import_index
from rsbench.noise.index import NoiseIndex, NoiseSpec, realised
from rsbench.noise.make import make_index
from rsbench.noise.pseudo_match import TRIES, Sample, check_pmp, replace_captions, sample, threshold_of
from rsbench.noise.pseudo_match_store import list_facts, make_list, manifest_path, read_manifest
from rsbench.seeding import derive_seed

COUNTS = st.lists(st.integers(1, 6), min_size=2, max_size=12)
RATES = st.floats(0, 0.999)
UNITS = st.sampled_from(["caption", "image"])
THRESHOLDS = st.sampled_from([0.02, 0.2, 0.6, 2.0])
SPEC = NoiseSpec("pmp", "caption", 0.4, scorer="run:0123456789abcdef", threshold=0.5)


def hashed(images, captions):
    """Scores in [0, 1) that look random and are the same everywhere."""
    return ((images * 7919 + captions * 104_729 + 13) % 997 / 997).astype(np.float32)


def aligned(data):
    """A scorer that gives own pairs about 0.8 and others about 0.3."""

    def score(images, captions):
        own = data.caption_image[captions] == images
        return np.where(own, 0.7, 0.2).astype(np.float32) + 0.2 * hashed(images, captions)

    return score


def draw(data, spec, score=hashed):
    return replace_captions(data, "official", spec, score, spec.threshold, Sample(np.ones(1), np.ones(1)))


def attempt(data, spec):
    """What was drawn, or None where every caption fell back (an error of its own)."""
    try:
        return draw(data, spec)
    except NoiseError as error:
        assert "no caption scores below" in str(error)
        return None


@given(COUNTS, RATES, UNITS, THRESHOLDS, st.integers(0, 99))
@settings(max_examples=120, deadline=None)
def test_what_a_list_may_and_may_not_change(build, counts, rate, unit, threshold, seed) -> None:
    data, spec = build(counts), replace(SPEC, rate=rate, unit=unit, threshold=threshold, seed=seed)
    made, clean = attempt(data, spec), data.pairs("official", "train")
    if made is None:
        return
    assert made.pairs.dtype == np.int64
    assert np.array_equal(made.pairs[:, 0], clean[:, 0]), "images stay"
    moved = np.flatnonzero((made.pairs != clean).any(axis=1))
    assert np.array_equal(moved, made.rows), "exactly the chosen rows change"
    if unit == "caption":
        assert len(moved) == int(rate * len(clean))
    else:
        chosen = np.unique(clean[moved, 0])
        assert len(chosen) == int(rate * len(counts))
        assert np.array_equal(moved, np.flatnonzero(np.isin(clean[:, 0], chosen))), "all captions of a slot"
    shown = made.pairs[moved]
    assert (data.caption_image[shown[:, 1]] != shown[:, 0]).all(), "never an own caption"
    assert np.isin(shown[:, 1], clean[:, 1]).all(), "captions of validation and test images are never shown"
    assert np.array_equal(made.scores, hashed(shown[:, 0], shown[:, 1]))
    assert np.array_equal(made.fell_back, made.scores >= np.float32(threshold))
    again = draw(data, spec)
    assert np.array_equal(again.pairs, made.pairs)


@pytest.mark.parametrize("unit", ["caption", "image"])
@pytest.mark.parametrize("threshold", [0.05, 0.4])
def test_a_plain_loop_draws_the_same_list(build, unit, threshold) -> None:
    data = build([3, 1, 4, 2, 5, 2, 3, 4, 1, 5])
    spec = replace(SPEC, unit=unit, rate=0.6, threshold=threshold, seed=7)
    clean = data.pairs("official", "train").tolist()
    bits = np.random.PCG64(derive_seed("noise", data.fingerprint, "official", "pmp", unit, "0.6", 7))
    order = list(dict.fromkeys(image for image, _ in clean))
    units = [[r] for r in range(len(clean))] if unit == "caption" else [
        [r for r, (image, _) in enumerate(clean) if image == own] for own in order
    ]  # fmt: skip
    words = [int(bits.random_raw()) for _ in units]
    chosen = sorted(range(len(units)), key=lambda k: words[k])[: int(0.6 * len(units))]
    rows = sorted(r for k in chosen for r in units[k])
    tried = [[int(bits.random_raw()) for _ in rows] for _ in range(TRIES)]
    expected = [list(pair) for pair in clean]
    for at, row in enumerate(rows):
        image = clean[row][0]
        others = [caption for owner, caption in clean if owner != image]
        drawn = [others[tried[t][at] % len(others)] for t in range(TRIES)]
        scores = [(image * 7919 + c * 104_729 + 13) % 997 / 997 for c in drawn]
        below = [t for t in range(TRIES) if scores[t] < threshold]
        expected[row][1] = drawn[below[0] if below else scores.index(min(scores))]
    assert draw(data, spec).pairs.tolist() == expected


def test_the_bytes_of_a_list_never_change(build) -> None:
    data = build([5] * 8)
    shown = [draw(data, replace(SPEC, unit=unit)).pairs for unit in ("caption", "image")]
    shas = [NoiseIndex(SPEC, data.name, data.fingerprint, "official", p).sha256[:16] for p in shown]
    assert shas == ["02797403d4256ad1", "b38c6fb539f8b27f"]


def test_a_caption_that_nothing_suits_takes_its_lowest_draw(build) -> None:
    data = build([2] * 30)
    hard = data.pairs("official", "train")[0, 0]

    def score(images, captions):
        return np.where(images == hard, 1 + hashed(images, captions), 0).astype(np.float32)

    made = draw(data, replace(SPEC, rate=0.99), score)
    assert set(made.pairs[made.rows[made.fell_back], 0]) == {hard}
    assert made.scores[made.fell_back].max() < 1.3, "the lowest of 50 draws, not any"


def test_no_candidate_below_the_threshold_tells_the_share(build) -> None:
    data, spec = build([3] * 10), replace(SPEC, threshold=-1.0)
    found = sample(data, "official", hashed)
    with pytest.raises(NoiseError, match=r"no caption scores below the threshold -1 .*0\.00 % of random mismatched"):
        replace_captions(data, "official", spec, hashed, -1.0, found)


def test_one_image_has_no_captions_of_others(build) -> None:
    with pytest.raises(NoiseError, match="one image"):
        draw(build([5]), replace(SPEC, rate=0.5))


def test_threshold_given_quantile_or_boundary(build) -> None:
    data = build([5] * 60)
    found = sample(data, "official", aligned(data))
    assert found.matched.min() >= np.float32(0.7)
    assert found.mismatched.max() < 0.41
    assert threshold_of(SPEC, found) == 0.5
    low = threshold_of(replace(SPEC, threshold=None, quantile=0.25), found)
    assert found.below(low) == pytest.approx(0.25, abs=0.01)
    between = threshold_of(replace(SPEC, threshold=None), found)
    assert found.mismatched.max() < between < found.matched.min()


def test_boundary_is_that_of_the_card(build) -> None:
    """TV1 of the PMPGuard card: means 0.6 and 0.3, deviations 0.1, alpha 1."""
    wave = np.array([-0.1, 0.1] * 500)
    found = Sample((0.6 + wave).astype(np.float32), (0.3 + wave).astype(np.float32))
    assert threshold_of(replace(SPEC, threshold=None), found) == pytest.approx(0.45, abs=1e-6)


def test_a_scorer_that_cannot_tell_pairs_apart_is_refused(build) -> None:
    data = build([5] * 6)
    with pytest.raises(NoiseError, match="does not tell matched pairs"):
        threshold_of(replace(SPEC, threshold=None), sample(data, "official", lambda i, c: np.ones(len(i), np.float32)))
    with pytest.raises(NoiseError, match="not finite"):
        sample(data, "official", lambda i, c: np.full(len(i), np.nan, np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantile": 0.5}, "give one of them"),
        ({"threshold": float("nan")}, "finite"),
        ({"threshold": None, "quantile": 1.0}, r"outside \(0, 1\)"),
        ({"kind": "shuffle"}, "belong to noise kind pmp, not shuffle"),
    ],
)
def test_fields_that_do_not_fit(change, message) -> None:
    with pytest.raises(UsageError, match=message):
        check_pmp(replace(SPEC, **change))


def test_a_list_is_kept_with_its_manifest_and_read_without_the_scorer(build, tmp_path) -> None:
    data, spec = build([5] * 60), replace(SPEC, threshold=None)
    made = make_list(data, "official", spec, aligned(data), tmp_path, {"method": "infonce:full"}, ["noisy scorer"])
    index = make_index(data, "official", spec, tmp_path)
    assert index.sha256 == made["sha256"] == read_manifest(data, "official", spec, tmp_path)["sha256"]
    assert made["share_fallback"] == 0
    assert made["scorer"] == {"name": spec.scorer, "method": "infonce:full"}
    assert sum(made["histogram"]["replaced"]) == made["replaced"] == 120
    facts = list_facts(data, "official", spec, tmp_path)
    assert facts["threshold"] == made["threshold"]
    assert facts["warnings"] == ["noisy scorer"]
    assert realised(data, index).mismatched == pytest.approx(0.4)
    assert list_facts(data, "official", NoiseSpec(rate=0.4), tmp_path) == {}


def test_each_field_of_the_spec_has_its_own_list(build, tmp_path) -> None:
    data = build([5] * 6)
    others = [
        replace(SPEC, **change)
        for change in ({"seed": 1}, {"rate": 0.2}, {"unit": "image"}, {"threshold": 0.4}, {"scorer": "georsclip"})
    ]
    paths = {manifest_path(data, "official", s, tmp_path) for s in [SPEC, *others]}
    paths |= {manifest_path(replace(data, fingerprint="g"), "official", SPEC, tmp_path)}
    paths |= {manifest_path(data, "second", SPEC, tmp_path)}
    assert len(paths) == 8


def test_a_list_that_was_not_made_says_how(build, tmp_path) -> None:
    says = (
        r"make it there: rsbench noise unit --kind pmp --rate 0.4 --scorer run:PATH/0123456789abcdef --split official"
    )
    with pytest.raises(NoiseError, match=says):
        make_index(build([5] * 6), "official", SPEC, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "other", "manifest"])
def test_damaged_lists_are_told(build, tmp_path, damage) -> None:
    data = build([5] * 6)
    make_list(data, "official", SPEC, hashed, tmp_path)
    path = manifest_path(data, "official", SPEC, tmp_path)
    if damage == "manifest":
        path.write_text("{")
    elif damage == "other":
        path.write_text(json.dumps({"sha256": "0"}))
    else:
        path.with_suffix(".safetensors").write_bytes(b"0")
    with pytest.raises(NoiseError, match=r"delete"):
        make_index(data, "official", SPEC, tmp_path)


def test_export_as_array_is_refused_and_as_table_comes_back(build, tmp_path) -> None:
    data = build([5] * 12)
    make_list(data, "official", SPEC, hashed, tmp_path)
    index = make_index(data, "official", SPEC, tmp_path)
    for form in ("per-caption", "per-image"):
        with pytest.raises(NoiseError, match="no permutation"):
            write_pairs(data, index, tmp_path / "x.npy", form)
    write_pairs(data, index, tmp_path / "x.csv")
    with pytest.raises(NoiseError, match="no shuffle"):
        import_index(data, "official", tmp_path / "x.csv")
    again = import_index(data, "official", tmp_path / "x.csv", kind="pmp")
    assert again.sha256 == index.sha256
    assert list_facts(data, "official", again.spec, tmp_path) == {}


def test_nearest_kind_is_named(build) -> None:
    with pytest.raises(UnknownNameError, match="did you mean pmp"):
        make_index(build([2, 2]), "official", replace(SPEC, kind="pmpp"))
