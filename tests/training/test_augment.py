"""Crops and mirror images of a batch equal those of one image at a time, and depend on pair, epoch and seed alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rsbench.backbones.augment import Augmentation, crop_boxes, resampled
from rsbench.backbones.base import Inputs
from rsbench.data.dataset import Dataset
from rsbench.errors import UsageError
from rsbench.training import device as devices
from rsbench.training.loop import Trainer
from rsbench.training.pairs import TrainingPairs
from rsbench.training.recipe import Recipe
from rsbench.training.tune import augmentation_of

CPU = torch.device("cpu")


def pictures(n: int = 6, side: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(n, 3, 6, 6, generator=generator)
    big = torch.nn.functional.interpolate(smooth, size=(side, side), mode="bilinear")
    return (big * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def one_by_one(pixels: torch.Tensor, boxes: torch.Tensor, mirrored: torch.Tensor) -> np.ndarray:
    """Pillow, image by image."""
    found = []
    for image, (top, left, height, width), mirror in zip(pixels, boxes.tolist(), mirrored.tolist(), strict=True):
        crop = Image.fromarray(image.numpy()).crop((left, top, left + width, top + height))
        view = np.asarray(crop.resize((image.shape[1], image.shape[0]), Image.Resampling.BICUBIC))
        found.append(view[:, ::-1] if mirror else view)
    return np.stack(found)


def torch_one_by_one(pixels: torch.Tensor, boxes: torch.Tensor, mirrored: torch.Tensor) -> np.ndarray:
    """The resize of torch, image by image, which rounds once."""
    found = []
    for image, (top, left, height, width), mirror in zip(pixels, boxes.tolist(), mirrored.tolist(), strict=True):
        crop = image[top : top + height, left : left + width].permute(2, 0, 1)[None].double()
        view = torch.nn.functional.interpolate(crop, size=image.shape[:2], mode="bicubic", antialias=True)
        view = view.round().clamp(0, 255)[0].permute(1, 2, 0)
        found.append((view.flip(1) if mirror else view).numpy())
    return np.stack(found).astype(int)


def test_a_batch_of_crops_equals_pillow_on_each_image() -> None:
    pixels = pictures()
    boxes = torch.tensor(
        [[0, 0, 24, 24], [3, 5, 10, 12], [0, 12, 24, 12], [7, 7, 1, 1], [10, 0, 14, 9], [1, 2, 23, 22]]
    )
    mirrored = torch.tensor([False, True, False, True, False, True])
    ours, theirs = resampled(pixels, boxes, mirrored).numpy().astype(int), one_by_one(pixels, boxes, mirrored)
    assert np.abs(ours - theirs).max() <= 1, "Pillow rounds to 8 bit between the two directions"
    assert np.abs(ours - torch_one_by_one(pixels, boxes, mirrored)).mean() < 1e-3
    assert (ours[0] == pixels[0].numpy()).all(), "a whole image stays as it is"


def test_boxes_lie_inside_and_keep_the_stated_area() -> None:
    drawn = Augmentation(0.3, False).draw(4000, seed=0, epoch=0)
    boxes = crop_boxes(drawn, 40, 60, 0.3).double()
    top, left, height, width = boxes.T
    assert (boxes >= 0).all() and (top + height <= 40).all() and (left + width <= 60).all()
    area, ratio = height * width / 2400, (width / 60) / (height / 40)
    assert area.min() > 0.27 and area.max() <= 1 and 0.55 < area.mean() < 0.68
    assert ratio.min() > 0.7 and ratio.max() < 1.42
    assert {0, 1}.issubset(set((top + height == 40).int().tolist()))


def test_flip_alone_mirrors_half_of_the_images() -> None:
    augment, pixels = Augmentation(1.0, True), pictures(200, 8)
    drawn = augment.draw(200, seed=1, epoch=0)
    found = augment(pixels, drawn)
    chosen = drawn[:, 4] < 0.5
    assert 70 < int(chosen.sum()) < 130
    assert torch.equal(found[chosen], pixels[chosen].flip(2)) and torch.equal(found[~chosen], pixels[~chosen])
    cropped = Augmentation(0.5, False)(pixels, drawn)
    both = Augmentation(0.5, True)(pixels, drawn)
    assert torch.equal(both[~chosen], cropped[~chosen]) and torch.equal(both[chosen], cropped[chosen].flip(2))


def made_pairs(data: Dataset, batch_size: int, augmentation: Augmentation | None) -> TrainingPairs:
    inputs = Inputs({"pixels": pictures(30)}, {"ids": torch.arange(len(data.texts))[:, None]})
    return TrainingPairs(data, data.pairs("official", "train"), inputs, batch_size, CPU, augmentation)


def views(pairs: TrainingPairs, seed: int, epoch: int) -> dict[int, torch.Tensor]:
    found = {}
    for batch in pairs.shuffled(None, seed, "train", epoch):
        found |= dict(zip(batch.pair.tolist(), batch.images["pixels"], strict=True))
    return found


def test_a_view_depends_on_pair_epoch_and_seed_alone(features_dataset: Dataset) -> None:
    augmentation = Augmentation(0.4, True)
    by_four, by_ten = (views(made_pairs(features_dataset, b, augmentation), 0, 0) for b in (4, 10))
    assert by_four.keys() == by_ten.keys() and all(torch.equal(v, by_ten[p]) for p, v in by_four.items())
    for other in (views(made_pairs(features_dataset, 4, augmentation), *key) for key in ((0, 1), (1, 0))):
        assert any(not torch.equal(v, other[p]) for p, v in by_four.items())
    assert not torch.equal(by_four[0], by_four[1]), "two captions of an image are shown with two views of it"


def test_off_by_default_and_never_while_scoring(features_dataset: Dataset) -> None:
    assert augmentation_of(Recipe()) is None
    assert augmentation_of(Recipe(crop=0.5)) == Augmentation(0.5, False)
    plain, augmented = (made_pairs(features_dataset, 4, a) for a in (None, Augmentation(0.4, True)))
    for a, b in zip(plain.fixed("train", 0), augmented.fixed("train", 0), strict=True):
        assert torch.equal(a.images["pixels"], b.images["pixels"])
    for batch in plain.shuffled(None, 0, "train", 0):
        assert torch.equal(batch.images["pixels"], plain.inputs.image["pixels"][batch.image])


def test_features_cannot_be_augmented(features_dataset: Dataset) -> None:
    inputs = Inputs({"pooled": torch.zeros(30, 2)}, {"pooled": torch.zeros(len(features_dataset.texts), 2)})
    pairs = features_dataset.pairs("official", "train")
    with pytest.raises(UsageError, match=r"recipe.crop and recipe.flip change pixels"):
        TrainingPairs(features_dataset, pairs, inputs, 4, CPU, Augmentation(1.0, True))


@pytest.mark.parametrize("crop", [0.0, 1.5, float("nan")])
def test_bad_crop(crop: float) -> None:
    with pytest.raises(UsageError, match=r"recipe.crop"):
        Recipe(crop=crop)


def test_inputs_move_to_the_device_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Inputs({"pixels": torch.zeros(4, 5, 5, 3, dtype=torch.uint8)}, {"ids": torch.zeros(4, 2)})
    size = 4 * 75 + 4 * 8
    meta = torch.device("meta")
    assert devices.resident(inputs, CPU) is inputs
    for free, moves in ((2 * size, True), (2 * size - 1, False)):
        monkeypatch.setattr(devices, "free_bytes", lambda device, free=free: free)
        found = devices.resident(inputs, meta)
        assert found.image["pixels"].is_meta == found.text["ids"].is_meta == moves


def test_a_batch_is_the_same_from_a_memory_map(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", pictures(9).numpy())
    from rsbench.backbones.pixels import as_tensor

    mapped = as_tensor(np.load(tmp_path / "images.npy", mmap_mode="r"))
    ids = torch.tensor([8, 0, 3, 3])
    found = Inputs({"pixels": mapped}, {}).images(ids, CPU)["pixels"]
    assert torch.equal(found, torch.stack([pictures(9)[int(i)] for i in ids]))


def test_trainer_fixture_still_runs_without(make_trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    assert make_trainer(tmp_path).pairs.augmentation is None
