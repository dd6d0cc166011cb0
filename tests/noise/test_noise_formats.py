"""Import and export: every form there and back, and every way a file can be wrong."""

from __future__ import annotations

import gzip
import io
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsbench.errors import NoiseError, UnknownNameError, UsageError
from rsbench.noise.formats import read_pairs, write_pairs
from rsbench.noise.imported import import_index
from rsbench.noise.index import NoiseIndex, NoiseSpec
from rsbench.noise.make import make_index
from rsbench.registry import NOISE_KINDS, Entry

COUNTS = st.lists(st.integers(1, 5), min_size=2, max_size=10)
RATES = st.floats(0, 0.999)


def shuffled(data, rate: float, unit: str, seed: int = 0) -> NoiseIndex:
    return make_index(data, "official", NoiseSpec(rate=rate, unit=unit, seed=seed))


def shown(pairs) -> Counter:
    return Counter(map(tuple, pairs.tolist()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("forms")


@given(COUNTS, RATES, st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_per_caption_there_and_back_shows_the_same_pairs(build, folder, counts, rate, seed) -> None:
    data, path = build(counts), folder / "caption.npy"
    index = shuffled(data, rate, "caption", seed)
    assert write_pairs(data, index, path) == "per-caption"
    values, clean = np.load(path), data.pairs("official", "train")
    order = data.splits["official"]["train"].tolist()
    at = {caption: image for image, caption in index.pairs.tolist()}
    assert values.dtype == np.int64
    assert values.tolist() == [order.index(at[c]) for c in clean[:, 1].tolist()]
    again = import_index(data, "official", path)
    assert shown(again.pairs) == shown(index.pairs)
    write_pairs(data, again, folder / "twice.npy")
    assert (folder / "twice.npy").read_bytes() == path.read_bytes()


@given(COUNTS, RATES, st.sampled_from(["per-image", "per-caption", "pairs"]), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_image_unit_there_and_back_is_identical_row_by_row(build, folder, counts, rate, form, seed) -> None:
    data, path = build(counts), folder / "image.npy"
    index = shuffled(data, rate, "image", seed)
    assert write_pairs(data, index, path, form) == form
    again = import_index(data, "official", path)
    assert np.array_equal(again.pairs, index.pairs)
    if form == "per-image":
        values, order = np.load(path), data.splits["official"]["train"].tolist()
        own = data.pairs("official", "train")[:, 0].tolist()
        expected = {order.index(o): order.index(i) for o, i in zip(own, index.pairs[:, 0].tolist(), strict=True)}
        assert dict(enumerate(values.tolist())) == expected
    if max(counts) > 1 and not np.array_equal(index.pairs, data.pairs("official", "train")):
        assert again.spec.unit == "image"


@given(COUNTS, RATES, st.integers(1, 12), st.sampled_from(["t.csv", "t.csv.gz"]))
@settings(max_examples=30, deadline=None)
def test_title_table_keeps_the_list_of_texts(build, folder, counts, rate, texts, name) -> None:
    data, path = build(counts, texts=texts), folder / name
    index = shuffled(data, rate, "caption")
    assert write_pairs(data, index, path) == "csv"
    again = import_index(data, "official", path)
    assert again.pairs[:, 0].tolist() == index.pairs[:, 0].tolist()
    assert [data.captions[c] for c in again.pairs[:, 1]] == [data.captions[c] for c in index.pairs[:, 1]]
    assert sorted(again.pairs[:, 1].tolist()) == sorted(index.pairs[:, 1].tolist())
    assert np.array_equal(import_index(data, "official", path).pairs, again.pairs)


@given(
    COUNTS, RATES, st.sampled_from(["caption", "image"]), st.sampled_from([("r.csv.gz", "rows"), ("p.npy", "pairs")])
)
@settings(max_examples=30, deadline=None)
def test_rows_and_pairs_lose_nothing(build, folder, counts, rate, unit, target) -> None:
    data, path = build(counts, texts=3), folder / target[0]
    index = shuffled(data, rate, unit)
    write_pairs(data, index, path, target[1])
    assert np.array_equal(read_pairs(data, "official", path), index.pairs)


def test_a_title_table_may_be_in_any_order_and_carry_folders(build, tmp_path) -> None:
    data = build([2, 3, 1])
    index = shuffled(data, 0.9, "caption")
    write_pairs(data, index, tmp_path / "a.csv")
    header, *lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    lines = ["C:\\x\\" + line for line in sorted(lines, key=lambda x: x.split(",")[0])]
    (tmp_path / "b.csv").write_text("\ufeff" + "\n".join([header, *lines]), encoding="utf-8")
    assert np.array_equal(read_pairs(data, "official", tmp_path / "b.csv"), index.pairs)


def test_length_decides_between_captions_and_images(build, tmp_path) -> None:
    data = build([5] * 4)
    expanded = np.repeat([1, 0, 3, 2], 5)
    np.save(tmp_path / "image.npy", np.array([1, 0, 3, 2], dtype=np.int32))
    np.save(tmp_path / "caption.npy", expanded.astype(np.uint64))
    first, second = (import_index(data, "official", tmp_path / f"{n}.npy") for n in ("image", "caption"))
    assert np.array_equal(first.pairs, second.pairs)
    assert (first.spec.unit, first.spec.rate) == (second.spec.unit, second.spec.rate) == ("image", 1.0)


def test_a_list_that_repeats_captions_has_no_array_form(build, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(NOISE_KINDS._entries, "free", Entry("free", "m:f", "captions may repeat"))
    data = build([2, 2, 2])
    pairs = data.pairs("official", "train")
    pairs[0, 1] = pairs[3, 1]
    index = NoiseIndex(NoiseSpec(), data.name, data.fingerprint, "official", pairs)
    for form in ("per-caption", "per-image"):
        with pytest.raises(NoiseError, match=rf"cannot write the {form} form.*caption row 0 is shown 0 times"):
            write_pairs(data, index, tmp_path / "x.npy", form)
    for name, form in (("x.csv", "csv"), ("x.csv.gz", "rows"), ("x.npy", "pairs")):
        write_pairs(data, index, tmp_path / name, form)
        assert np.array_equal(read_pairs(data, "official", tmp_path / name), pairs)
        with pytest.raises(NoiseError, match="is no shuffle of the training part: caption row 0 is shown 0 times"):
            import_index(data, "official", tmp_path / name)
        assert np.array_equal(import_index(data, "official", tmp_path / name, kind="free").pairs, pairs)


def test_captions_that_part_have_no_per_image_form(build, tmp_path) -> None:
    data = build([5] * 6)
    with pytest.raises(NoiseError, match="captions of one image are shown with different images"):
        write_pairs(data, shuffled(data, 0.5, "caption"), tmp_path / "x.npy", "per-image")
    assert not list(tmp_path.iterdir())


def test_forms_and_endings_must_agree(build, tmp_path) -> None:
    data = build([2, 2])
    index = shuffled(data, 0.5, "caption")
    with pytest.raises(UnknownNameError, match="unknown noise file form 'per-captions'; did you mean per-caption"):
        write_pairs(data, index, tmp_path / "x.npy", "per-captions")
    with pytest.raises(UsageError, match=r"form 'csv' is written to a file that ends in \.csv or \.csv\.gz"):
        write_pairs(data, index, tmp_path / "x.npy", "csv")
    with pytest.raises(UsageError, match=r"form 'pairs' is written to a file that ends in \.npy"):
        write_pairs(data, index, tmp_path / "x.csv", "pairs")
    with pytest.raises(UsageError, match=r"a noise file ends in \.npy, \.csv or \.csv\.gz"):
        write_pairs(data, index, tmp_path / "x.txt")
    with pytest.raises(UsageError, match=r"cannot tell the form of 'x\.pkl'"):
        read_pairs(data, "official", tmp_path / "x.pkl")
    with pytest.raises(NoiseError, match=r"cannot write .*No such file or directory"):
        write_pairs(data, index, tmp_path / "absent" / "x.npy")


def npy(values, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, **options))
    return buffer.getvalue()


CLEAN = [0, 0, 1, 1, 2, 2]
ROWS = "filename,row,source_row\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", None, "no such noise file"),
        ("a.npy", b"", "is no whole .npy file"),
        ("a.npy", b"hello world", "is no whole .npy file"),
        ("a.npy", npy(CLEAN)[:-8], "is no whole .npy file"),
        ("a.npy", npy(CLEAN, dtype=object), "holds Python objects, which are never loaded"),
        ("a.npy", pickle.dumps(CLEAN), "holds Python objects, which are never loaded"),
        ("a.npy", npy(CLEAN, dtype=float), "holds float64 values"),
        ("a.npy", npy(CLEAN, dtype=bool), "holds bool values"),
        ("a.npy", npy([2**63] * 6, dtype=np.uint64), "holds values beyond int64"),
        ("a.npy", npy(0), "the array has shape []"),
        ("a.npy", npy([CLEAN, CLEAN]), "the array has shape [2, 6]"),
        ("a.npy", npy(CLEAN[:5]), "has 5 entries, the training part has 6 captions (per-caption form) or 3 images"),
        ("a.npy", npy([0, 0, 1, 1, 2, 3]), "entry 5 names image slot 3; slots run from 0 to 2"),
        ("a.npy", npy([0, 0, -1, 1, 2, 2]), "entry 2 names image slot -1"),
        (
            "a.npy",
            npy([0, 0, 0, 1, 2, 2]),
            "is no shuffle of the training part: image slot 0 is shown 3 times instead of 2",
        ),
        ("a.npy", npy([0, 0, 1]), "is no shuffle of the training part: image slot 0 is shown 4 times instead of 2"),
        ("a.npy", npy([[0, 0]]), "the list has 1 pairs, the training part has 6"),
        ("a.npy", npy([[4, 0]] * 6), "pair 0 names image 4, which is not in the training part"),
        ("a.npy", npy([[0, 99]] * 6), "pair 0 names caption 99, which is not in the training part"),
        ("a.csv", None, "no such noise file"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"filename,caption\n", "lacks column 'title'; its header must name filename,title"),
        ("a.csv", b"name,title\n", "lacks column 'filename'"),
        ("a.csv", b"filename,title\n\xff\xfe,x\n", "is not UTF-8 (byte 15)"),
        ("a.csv", b'filename,title\nimg_0.tif,"x\n', "is no valid CSV"),
        ("a.csv", b"filename,title\nimg_0.tif\n", "line 2 has 1 cells instead of 2"),
        ("a.csv", b"filename,title\nimg_0.tif,x\n", "has 1 rows, the training part has 6 pairs"),
        ("a.csv.gz", b"filename,title\n", "is no whole gzip file"),
        ("a.csv.gz", gzip.compress(b"filename,title\n" * 99, mtime=0)[:-9], "is no whole gzip file"),
        ("a.csv", b"filename,title\n" + b"img_9.tif,x\n" * 6, "line 2: 'img_9.tif' is no image of the training part"),
        ("a.csv", b"filename,title\n" + b"img_3.tif,x\n" * 6, "line 2: 'img_3.tif' is no image of the training part"),
        ("a.csv", b"filename,title\n" + b"img_0.tif,x\n" * 6, "has 6 rows for image 'img_0.tif' instead of 2"),
        (
            "a.csv",
            b"filename,title\n" + b"".join(b"img_%d.tif,unseen text\n" % i for i in CLEAN),
            "'unseen text' (pair ",
        ),
        ("a.csv", (ROWS + "img_0.tif,0,6\n" * 6).encode(), "line 2: source_row '6' is no row number from 0 to 5"),
        ("a.csv", (ROWS + "img_0.tif,-1,0\n" * 6).encode(), "line 2: row '-1' is no row number from 0 to 5"),
        ("a.csv", (ROWS + "img_0.tif,1.0,0\n" * 6).encode(), "line 2: row '1.0' is no row number from 0 to 5"),
        ("a.csv", (ROWS + "img_0.tif,1,0\n" * 6).encode(), "has row 1 more than once"),
    ],
)
def test_bad_files_are_refused_in_one_clear_line(build, tmp_path, name, content, message) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NoiseError) as caught:
        import_index(build([2, 2, 2]), "official", path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_npz_archives_are_refused(build, tmp_path) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, a=np.array(CLEAN))
    with pytest.raises(NoiseError, match=r"is a \.npz archive"):
        import_index(build([2, 2, 2]), "official", tmp_path / "a.npy")


def test_a_file_that_runs_code_when_unpickled_does_not(build, tmp_path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path(tmp_path / "fired").touch, ())

    np.save(tmp_path / "a.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(NoiseError, match="never loaded"):
        import_index(build([2, 2, 2]), "official", tmp_path / "a.npy")
    assert not (tmp_path / "fired").exists()


def test_only_registered_noise_is_imported(build, tmp_path) -> None:
    np.save(tmp_path / "a.npy", CLEAN)
    with pytest.raises(UnknownNameError, match="unknown noise kind 'shufle'; did you mean shuffle"):
        import_index(build([2, 2, 2]), "official", tmp_path / "a.npy", kind="shufle")
    with pytest.raises(UsageError, match="is never imported"):
        import_index(build([2, 2, 2]), "official", tmp_path / "a.npy", kind="none")
