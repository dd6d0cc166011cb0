"""Which training captions a trained method ranks first for images that were shown a wrong one (PMPGuard, Fig. 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rsbench.data.dataset import Ints
from rsbench.experiment.evaluate import trained_method
from rsbench.experiment.pair_records import PairRecords
from rsbench.progress import Progress, silent
from rsbench.seeding import derive_seed
from rsbench.training.device import autocast, choose_device
from rsbench.training.scoring import ENCODE_BATCH, encode_all

TOPS = (1, 5, 10)
"""Depths k at which a caption counts as retrieved."""


@dataclass(frozen=True)
class Rematched:
    """Mismatched pairs and the captions that the trained method prefers.

    Attributes:
        rows: int64 ``[R]``, pair ids.
        top: int64 ``[R, 10]``, rows of ``Dataset.texts``, best first, among the distinct training captions.
        images: distinct given images among the rows.
        all_images: distinct given images of all mismatched pairs; larger where a sample was drawn.
        shares: ``original@k`` (the caption that belongs in the row; only where the noise kept each row's image),
            ``own@k`` (any caption of the given image) and ``given@1`` (the wrong caption was learnt by heart).
    """

    rows: Ints
    top: Ints
    images: int
    all_images: int
    shares: dict[str, float]


def rematch(records: PairRecords, limit: int, device: str = "auto", progress: Progress = silent) -> Rematched:
    """Rank all distinct training captions for the images of mismatched pairs, with the run's best weights.

    Texts are encoded and scored a block at a time, so that memory does not grow with their number.

    Args:
        records: of a finished run with truth.
        limit: at most this many images; a seeded draw where there are more.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        progress: told after each block of captions.

    Raises:
        ResultError: no weights.
    """
    assert records.truth is not None
    pairs, rows = records.index.pairs, np.flatnonzero(records.truth)
    everyone = np.unique(pairs[rows, 0])
    images = _draw(everyone, limit)
    rows = rows[np.isin(pairs[rows, 0], images)]
    texts = np.union1d(*(records.dataset.caption_text[p[:, 1]] for p in (pairs, clean_pairs(records))))
    found = _top_texts(records, images, texts, device, progress)
    top = found[np.searchsorted(images, pairs[rows, 0])]
    return Rematched(rows, top, len(images), len(everyone), _shares(records, rows, top))


def clean_pairs(records: PairRecords) -> Ints:
    """The dataset's own training pairs ``[P, 2]``; row r of the shown ones is the noisy form of row r."""
    return records.dataset.pairs(records.spec.split, "train")


def _draw(images: Ints, limit: int) -> Ints:
    if len(images) <= limit:
        return images
    generator = np.random.default_rng(derive_seed("rematch"))
    return np.sort(generator.choice(images, limit, replace=False))


@torch.no_grad()
def _top_texts(records: PairRecords, images: Ints, texts: Ints, device: str, progress: Progress) -> Ints:
    """The ``max(TOPS)`` best of ``texts`` for each image, best first; equal scores in the order of ``texts``."""
    spec, method = trained_method(records.folder.path)
    where = choose_device(device)
    tokens = bool(method.card.needs_of(spec.params))
    inputs = method.backbone.inputs(records.dataset, records.root / "features", tokens=tokens, progress=progress)
    method.to(where).eval()
    with autocast(where, spec.precision):
        image = encode_all(lambda i: method.encode_images(inputs.images(i, where)), torch.from_numpy(images))
    ids, best = torch.from_numpy(texts), torch.empty(len(images), 0, device=where)
    chosen = torch.empty(len(images), 0, dtype=torch.int64)
    for start in range(0, len(ids), ENCODE_BATCH):
        part = ids[start : start + ENCODE_BATCH]
        with autocast(where, spec.precision):
            text = method.encode_texts(inputs.texts(part, where))
            blocks = [method.similarity(image[a : a + ENCODE_BATCH], text) for a in range(0, len(images), ENCODE_BATCH)]
        best, chosen = _merge(best, chosen, torch.cat(blocks).float(), part)
        progress("ranking captions", min(start + ENCODE_BATCH, len(ids)), len(ids))
    return chosen.numpy()


def _merge(best: Tensor, chosen: Tensor, scores: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Best scores ``[N, k]`` and their ids after one more block of scores; a stable sort keeps earlier ids first."""
    every, names = torch.cat([best, scores], 1), torch.cat([chosen, ids.expand(len(scores), -1)], 1)
    ordered, order = every.sort(dim=1, descending=True, stable=True)
    return ordered[:, : max(TOPS)], names.gather(1, order[:, : max(TOPS)].cpu())


def _shares(records: PairRecords, rows: Ints, top: Ints) -> dict[str, float]:
    text, pairs, clean = records.dataset.caption_text, records.index.pairs, clean_pairs(records)
    own = [text[records.dataset.captions_of[i]] for i in pairs[rows, 0]]
    original, given = text[clean[rows, 1]], text[pairs[rows, 1]]
    found = {"given@1": float((top[:, 0] == given).mean())}
    for k in TOPS:
        found[f"own@{k}"] = float(np.mean([np.isin(best[:k], mine).any() for best, mine in zip(top, own, strict=True)]))
    if (pairs[:, 0] == clean[:, 0]).all():
        found |= {f"original@{k}": float((top[:, :k] == original[:, None]).any(1).mean()) for k in TOPS}
    return found
