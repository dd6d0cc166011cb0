"""Ask a finished run for images of a text, or for captions of an image."""

from __future__ import annotations

import difflib
import os
import random
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rsbench.backbones.base import Features, Inputs
from rsbench.data.lifecycle import open_dataset
from rsbench.errors import NonFiniteError, UsageError
from rsbench.experiment.evaluate import Scoring, trained_method
from rsbench.experiment.new_query import Pixels, check_known, inputs_of, read_image
from rsbench.matchers.blocks import in_blocks
from rsbench.registry import DATASETS
from rsbench.report.groups import method_label
from rsbench.report.retrieved import Found, Hit
from rsbench.seeding import derive_seed
from rsbench.training.device import autocast, choose_device
from rsbench.training.scoring import ENCODE_BATCH, encode_all


class Searcher:
    """A finished run's best weights over the images and distinct captions of one part of a dataset.

    Args:
        run: folder of the run.
        how: data folder, split, part, device and progress; ``folds`` is not used.
        dataset: another dataset than the run's own.

    Raises:
        UsageError: no run folder, or no such split or part.
        ResultError: no weights, or of another version.
        DataError: the dataset is not prepared.
    """

    def __init__(self, run: Path, how: Scoring, dataset: str | None = None) -> None:
        self.spec, method = trained_method(run)
        name = dataset or self.spec.dataset
        own = self.spec.split if name == self.spec.dataset else DATASETS.load(name).default_split
        self.how, self.split = how, how.split or own
        self.device = choose_device(how.device)
        self.dataset = open_dataset(name, how.root, how.progress)
        self.images = self.dataset.part(self.split, how.part)
        self.texts = np.unique(self.dataset.caption_text[self.dataset.pairs(self.split, how.part)[:, 1]])
        self.method = method.to(self.device).eval()

    @property
    def facts(self) -> list[tuple[str, str]]:
        """(name, value): the run, and what is searched."""
        spec, data = self.spec, self.dataset
        method = method_label({"method": spec.method, "variant": spec.variant})
        return [
            ("run", f"{spec.hash}: {method}, noise {spec.noise.rate:g}, seed {spec.seed}, trained on {spec.dataset}"),
            (
                "searched",
                f"{self.how.part} part of {data.name}, split {self.split}: {len(self.images):,} images, "
                f"{len(self.texts):,} distinct captions",
            ),
        ]

    def text(self, text: str, k: int) -> Found:
        """The k images that score highest for a text; right or wrong where it is a caption of an image searched.

        Raises:
            UsageError: an empty text, or one of words alone that the run does not know.
        """
        query = " ".join(text.encode("utf-8", "replace").decode().split())
        if not query:
            raise UsageError('the query is empty; give some words, for example "a river beside a stadium"')

        def encode(inputs: Inputs) -> Features:
            check_known(query, inputs)
            return self.method.encode_texts(inputs.texts(torch.tensor([0]), self.device))

        scores = self._scores(self._image_features, self._new(encode, text=query))[:, 0]
        rows = {" ".join(t.split()): row for row, t in enumerate(self.dataset.texts)}
        return self._images_of(query, scores, rows.get(query), k)

    def image(self, given: str, k: int) -> Found:
        """The k distinct captions that score highest for an image; right or wrong where it is one of those searched.

        Args:
            given: a file, or an image of the dataset by number or file name.
            k: most captions.

        Raises:
            UsageError: neither a file nor an image of the dataset.
            DataError: a file that is no readable image.
        """
        own = None if os.path.isfile(given) else self._image_id(given)
        if own is None:
            title, pixels = Path(given).name, read_image(Path(given), self.dataset.images.shape[1])
        else:
            title, pixels = self.dataset.filenames[own], self.dataset.images[own]
        features = self._new(lambda x: self.method.encode_images(x.images(torch.tensor([0]), self.device)), pixels)
        return self._texts_of(title, pixels, self._scores(features, self._text_features)[0], own, k)

    def draw(self, count: int, k: int, seed: int) -> tuple[list[Found], list[Found]]:
        """Retrieval for images and distinct captions of the part, ``count`` of each (RDB, Fig. 4-5).

        Args:
            count: queries of each direction, at most.
            k: most hits of a query.
            seed: decides the draw.

        Returns:
            Image-to-text and text-to-image.
        """
        dice = random.Random(derive_seed("gallery", seed))
        at = dice.sample(range(len(self.images)), min(count, len(self.images)))
        rows = dice.sample(range(len(self.texts)), min(count, len(self.texts)))
        i2t = self._scores(self._image_features[torch.tensor(at)], self._text_features)
        t2i = self._scores(self._image_features, self._text_features[torch.tensor(rows)]).T
        data, ids, texts = self.dataset, self.images[at].tolist(), self.texts[rows].tolist()
        found_texts = [
            self._texts_of(data.filenames[i], data.images[i], s, i, k) for i, s in zip(ids, i2t, strict=True)
        ]
        return found_texts, [self._images_of(data.texts[r], s, r, k) for r, s in zip(texts, t2i, strict=True)]

    def _images_of(self, query: str, scores: Tensor, text: int | None, k: int) -> Found:
        """Hits by scores ``[N]`` of the images searched; ``text`` is the row of a query that the dataset has."""
        data = self.dataset
        own = set() if text is None else set(data.caption_image[data.caption_text == text].tolist())
        own &= set(self.images.tolist())
        hits = []
        for at in best(scores, k):
            image = int(self.images[at])
            captions = tuple(dict.fromkeys(data.captions[c] for c in data.captions_of[image]))
            right = image in own if own else None
            hits.append(Hit(float(scores[at]), data.filenames[image], captions, data.images[image], right))
        return Found(query, None, tuple(hits))

    def _texts_of(self, title: str, pixels: Pixels, scores: Tensor, image: int | None, k: int) -> Found:
        """Hits by scores ``[T]`` of the captions searched; ``image`` is the id of a query that the dataset has."""
        data, inside = self.dataset, set(self.images.tolist())
        own = (
            set(data.caption_text[data.captions_of[image]].tolist()) if image is not None and image in inside else None
        )
        hits = []
        for at in best(scores, k):
            row = int(self.texts[at])
            owners = dict.fromkeys(i for i in data.caption_image[data.caption_text == row].tolist() if i in inside)
            name, *others = (data.filenames[i] for i in owners)
            name += f" and {len(others)} more" if others else ""
            hits.append(Hit(float(scores[at]), name, (data.texts[row],), None, None if own is None else row in own))
        return Found(title, pixels, tuple(hits))

    def _image_id(self, given: str) -> int:
        names = self.dataset.filenames
        if given in names:
            return names.index(given)
        if given.isascii() and given.isdigit() and int(given) < len(names):
            return int(given)
        near = difflib.get_close_matches(given, names, n=3, cutoff=0.6)
        raise UsageError(
            f"image '{given}' is neither a picture file nor an image of {self.dataset.name}"
            + (f"; did you mean {' or '.join(near)}?" if near else "")
            + f"; give a jpg, png or tif, or a file name or number (0 to {len(names) - 1}) of the dataset"
        )

    def _new(self, encode: Callable[[Inputs], Features], image: Pixels | None = None, text: str = "") -> Features:
        """Features of a query that the dataset need not have, along the road of a dataset of its own."""
        pixels = np.zeros_like(self.dataset.images[0]) if image is None else image
        with torch.no_grad(), autocast(self.device, self.spec.precision):
            return inputs_of(self.method.backbone, pixels, text or self.dataset.texts[0], self._tokens, encode)

    @property
    def _tokens(self) -> bool:
        return bool(self.method.card.needs_of(self.spec.params))

    @cached_property
    def _inputs(self) -> Inputs:
        how = self.how
        return self.method.backbone.inputs(self.dataset, how.root / "features", self._tokens, how.progress)

    @cached_property
    def _image_features(self) -> Features:
        x, method = self._inputs, self.method
        return self._encoded(lambda ids: method.encode_images(x.images(ids, self.device)), self.images.copy())

    @cached_property
    def _text_features(self) -> Features:
        x, method = self._inputs, self.method
        return self._encoded(lambda ids: method.encode_texts(x.texts(ids, self.device)), self.texts)

    @torch.no_grad()
    def _encoded(self, encode: Callable[[Tensor], Features], ids: np.ndarray) -> Features:
        with autocast(self.device, self.spec.precision):
            return encode_all(encode, torch.from_numpy(ids))

    @torch.no_grad()
    def _scores(self, image: Features, text: Features) -> Tensor:
        """Scores ``[N, M]`` on the CPU.

        Raises:
            NonFiniteError: a score is NaN or infinite.
        """
        with autocast(self.device, self.spec.precision):
            scores = in_blocks(self.method.similarity, image, text, ENCODE_BATCH, ENCODE_BATCH).float().cpu()
        if not scores.isfinite().all():
            raise NonFiniteError(f"run {self.spec.hash} gives scores that are NaN or infinite; train it again")
        return scores


def best(scores: Tensor, k: int) -> list[int]:
    """Places of the k highest of ``[n]`` scores, highest first; of equal ones the first, as ranks are counted."""
    return [int(i) for i in scores.sort(descending=True, stable=True).indices[:k]]
