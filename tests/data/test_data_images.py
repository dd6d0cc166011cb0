from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsbench.data.images import decode, read_images
from rsbench.data.parts import Unreadable
from rsbench.errors import DataError


def _file(image: Image.Image, form: str = "png", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


RGB = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("form", ["png", "tiff", "bmp"])
def test_rgb_of_the_right_size_is_kept_to_the_bit(form: str) -> None:
    assert np.array_equal(decode(_file(Image.fromarray(RGB), form), 8), RGB)


def test_other_sizes_are_squashed_bicubically() -> None:
    image = Image.fromarray(RGB).resize((13, 9))
    want = np.asarray(image.resize((8, 8), Image.Resampling.BICUBIC))
    assert np.array_equal(decode(_file(image), 8), want)


def test_grey_palette_and_alpha_become_rgb() -> None:
    grey = Image.fromarray(RGB[..., 0])
    assert np.array_equal(decode(_file(grey), 8), np.repeat(RGB[..., :1], 3, axis=2))
    palette = Image.fromarray(RGB).quantize(256)
    assert np.array_equal(decode(_file(palette), 8), np.asarray(palette.convert("RGB")))
    alpha = np.dstack([RGB, np.where(np.arange(64).reshape(8, 8) < 32, 255, 0).astype(np.uint8)])
    shown = decode(_file(Image.fromarray(alpha)), 8)
    assert np.array_equal(shown[:4], RGB[:4]) and not shown[4:].any()


def test_cmyk_is_converted() -> None:
    shown = decode(_file(Image.fromarray(RGB).convert("CMYK"), "tiff"), 8)
    assert shown.shape == (8, 8, 3) and np.array_equal(shown, RGB)


def test_16_bit_tif_is_scaled_to_8_bit() -> None:
    values = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    shown = decode(_file(Image.fromarray(values), "tiff"), 8)
    assert np.array_equal(shown[..., 0], np.rint(values / 257).astype(np.uint8))
    assert np.array_equal(shown[..., 0], shown[..., 2])


def test_damaged_files_give_their_reason() -> None:
    whole = _file(Image.fromarray(np.tile(RGB, (20, 20, 1))), "jpeg")
    assert decode(b"", 8) == Unreadable("empty file")
    assert decode(whole[: len(whole) // 2], 8) == Unreadable("truncated")
    assert decode(b"GIF? no", 8) == Unreadable("not a readable image")


def test_order_follows_the_names_not_the_source(raw) -> None:
    names = sorted(raw.files, reverse=True)
    shown = list(read_images(raw.tar(), names, 6, False))
    assert all(np.array_equal(image, decode(raw.files[name], 6)) for image, name in zip(shown, names, strict=True))


def test_absent_images_are_counted_and_named_before_any_work(raw) -> None:
    names = [*raw.files, "lost_1.png", "lost_2.png"]
    with pytest.raises(
        DataError, match=r"2 of 22 images .* lost_1.png \(not in raw.tar\), lost_2.png .*--allow-partial"
    ):
        next(iter(read_images(raw.tar(), names, 6, False)))
    shown = list(read_images(raw.tar(), names, 6, True))
    assert shown[-1] == Unreadable("not in raw.tar") and not isinstance(shown[0], Unreadable)


def test_one_damaged_zip_member_does_not_stop_the_others(raw) -> None:
    path = raw.zip()
    content = path.read_bytes()
    spoiled = raw.files["port_7.png"]
    path.write_bytes(content.replace(spoiled, spoiled[:-9] + b"#" + spoiled[-8:], 1))
    shown = list(read_images(path, list(raw.files), 6, True))
    assert [i for i, image in enumerate(shown) if isinstance(image, Unreadable)] == [7]


def test_real_tar(shared: Path) -> None:
    path = shared / "images" / "rsicd_mini.tar"
    with tarfile.open(path) as archive:
        names = [m.name for m in archive.getmembers()[:5]]
    assert all(image.shape == (64, 64, 3) for image in read_images(path, names, 64, False))
