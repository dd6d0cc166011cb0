"""Pairs chosen by their scores, as cards of a page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rsbench.data.dataset import Dataset, Ints
from rsbench.experiment.pair_records import PairRecords, Values
from rsbench.experiment.rematch import Rematched, clean_pairs
from rsbench.methods.base import CLEAN
from rsbench.report.gallery import PairCard, Section

CARDS = 12
"""Pairs in each gallery of a run."""

SIMILARITIES = ("similarity", "y_cm", "clean_score")
"""Records that tell how alike image and caption are for the model; the first that a run has is used."""


def lowest(values: Values, among: npt.NDArray[np.bool_], count: int) -> Ints:
    """Ids of the ``count`` smallest finite values among some pairs, smallest first, ties by id."""
    ids = np.flatnonzero(among & np.isfinite(values))
    return ids[np.argsort(values[ids], kind="stable")[:count]]


def pair_card(dataset: Dataset, pair: Ints, title: str, truth: bool | None) -> PairCard:
    """One shown pair ``(image, caption)``: picture, given caption, the other captions of the given image.

    Args:
        dataset: gives pictures and captions.
        pair: ``[2]``.
        title: heading.
        truth: whether it is mismatched; None where that is not known.
    """
    image, caption = int(pair[0]), int(pair[1])
    given = dataset.captions[caption]
    name = "other caption of the image" if truth is None else "own caption of the image"
    others = dict.fromkeys(dataset.captions[i] for i in dataset.captions_of[image])
    captions = [("given caption", given), *((name, text) for text in others if text != given)]
    mark = "" if truth is None else "mismatched" if truth else "clean"
    return PairCard(dataset.images[image], title, tuple(captions), mark)


def _cards(records: PairRecords, ids: Ints, values: Values, name: str) -> tuple[PairCard, ...]:
    return tuple(
        pair_card(
            records.dataset,
            records.index.pairs[i],
            f"{name} {values[i]:.3f}",
            None if records.truth is None else bool(records.truth[i]),
        )
        for i in ids
    )


def suspects(records: PairRecords, epoch: int) -> list[Section]:
    """Pairs by clean score: most suspicious, then both kinds of mistake where the truth is known (SREM, Fig. 4)."""
    score = records.read(epoch, "clean_score")
    if score is None:
        return []
    every, when = np.ones(len(score), dtype=bool), f"after epoch {epoch + 1}"
    found = [("Believed most mismatched", f"Lowest clean scores {when}.", lowest(score, every, CARDS), score)]
    if records.truth is not None:
        clean, wrong = ~records.truth, records.truth
        found.append(
            ("Clean, but suspected", f"Clean pairs with the lowest score {when}.", lowest(score, clean, CARDS), score)
        )
        found.append(
            (
                "Mismatched, but trusted",
                f"Mismatched pairs with the highest score {when}.",
                lowest(-score, wrong, CARDS),
                score,
            )
        )
    sections = [Section(title, text, _cards(records, ids, values, "score")) for title, text, ids, values in found]
    return sections + rejected(records, epoch)


def rejected(records: PairRecords, epoch: int) -> list[Section]:
    """Pairs that were not divided as clean although image and caption look alike to the model (ReCon, Fig. 4)."""
    division = records.read(epoch, "division")
    if division is None or not (division > CLEAN).any():
        return []
    name, value = next((n, v) for n in SIMILARITIES if (v := records.read(epoch, n)) is not None)
    ids = lowest(-value, division > CLEAN, CARDS)
    text = f"Pairs divided as ambiguous or noisy in epoch {epoch + 1}, highest {name} first."
    return [Section("Alike, but rejected", text, _cards(records, ids, value, name))]


def rematched(records: PairRecords, found: Rematched, epoch: int | None) -> Section:
    """Wrong captions beside the ones that the trained model ranks first (PMPGuard, Fig. 3); one card per image."""
    dataset, pairs, clean = records.dataset, records.index.pairs, clean_pairs(records)
    _, first = np.unique(pairs[found.rows, 0], return_index=True)
    cards = []
    for at in _spread(first, CARDS):
        row = int(found.rows[at])
        image, original = int(pairs[row, 0]), int(clean[row, 1])
        belongs = dataset.caption_image[original] == image
        captions = [("given caption", dataset.captions[int(pairs[row, 1])])]
        captions += [("original caption", dataset.captions[original])] if belongs else []
        captions += [("ranked first by the model", dataset.texts[int(found.top[at, 0])])]
        own = dataset.caption_text[dataset.captions_of[image]]
        hit = "own caption" if found.top[at, 0] in own else "another image's caption"
        cards.append(PairCard(dataset.images[image], f"pair {row}: {hit}", tuple(captions)))
    when = "" if epoch is None else f" of epoch {epoch + 1}"
    text = f"Mismatched pairs, with the training caption that the weights{when} rank first for the image."
    return Section("Rematched captions", text, tuple(cards))


def _spread(items: Sequence[int] | Ints, count: int) -> list[int]:
    """At most ``count`` items, evenly spaced, so that a gallery is not the first rows of the dataset alone."""
    at = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))
    return [int(items[i]) for i in at]
