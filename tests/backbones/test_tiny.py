"""``tiny``: vocabulary of the training captions, masks, speed."""

from __future__ import annotations

from pathlib import Path

import torch

from rsbench.backbones.base import CONTENT, PAD
from rsbench.backbones.build import build_backbone
from rsbench.backbones.tiny import Tiny
from rsbench.backbones.vocabulary import word_ids
from rsbench.matchers.cosine import cosine


def tiny(**params: object) -> Tiny:
    found = build_backbone("tiny", "", "", params, 0)
    assert isinstance(found, Tiny)
    return found


def test_vocabulary_holds_commonest_training_words(fake, tmp_path: Path) -> None:
    data = fake()
    backbone = tiny(vocabulary=5)
    backbone.fit(data, "official", tmp_path)
    counts: dict[str, int] = {}
    for image in data.part("official", "train"):
        for caption in data.captions_of[image]:
            for word in data.captions[caption].split():
                counts[word] = counts.get(word, 0) + 1
    known = sorted(counts, key=lambda w: (-counts[w], w))[:5]
    assert word_ids(backbone.vocabulary, known, 1)[:, 0].tolist() == [2, 3, 4, 5, 6]
    unknown = [w for w in counts if w not in known]
    assert set(word_ids(backbone.vocabulary, unknown, 1)[:, 0].tolist()) == {1}


def test_long_short_and_wordless_captions() -> None:
    backbone = tiny(words=3)
    ids = word_ids(backbone.vocabulary, ["a b c d e", "a", "?!"], backbone.words)
    assert ids.tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    found = backbone.encode_text({"ids": ids})
    assert found.kind.tolist() == [[CONTENT] * 3, [CONTENT, PAD, PAD], [CONTENT, PAD, PAD]]
    assert torch.allclose(found.pooled[1], found.tokens[1, 0])


def test_pooled_is_the_mean_of_regions() -> None:
    pixels = torch.randint(0, 256, (2, 40, 40, 3), dtype=torch.uint8)
    found = tiny(size=32).encode_image({"pixels": pixels})
    assert found.tokens.shape == (2, 16, 64)
    assert torch.allclose(found.pooled, found.tokens.mean(1))


def test_learns_a_handful_of_pairs(fake, tmp_path: Path) -> None:
    data = fake(n=6, per_image=1, seed=3)
    data.splits["official"]["train"].sort()
    backbone = tiny()
    backbone.fit(data, "official", tmp_path)
    inputs = backbone.inputs(data, tmp_path)
    optimizer = torch.optim.Adam(backbone.parameters(), lr=3e-3)
    target = torch.arange(4)
    for _ in range(40):
        scores = cosine(
            backbone.encode_image(inputs.images(target, torch.device("cpu"))),
            backbone.encode_text(inputs.texts(target, torch.device("cpu"))),
        )
        loss = torch.nn.functional.cross_entropy(scores / 0.1, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3
