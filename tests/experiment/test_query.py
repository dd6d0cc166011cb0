"""A query finds what ranking the whole part finds, for every way of reading a new text or picture."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rsbench.backbones.build import build_backbone
from rsbench.data.dataset import Dataset
from rsbench.data.lifecycle import open_dataset
from rsbench.errors import DataError, NonFiniteError, ResultError, UsageError
from rsbench.experiment import query as query_module
from rsbench.experiment.evaluate import Scoring
from rsbench.experiment.new_query import check_known, inputs_of, meaningless, read_image
from rsbench.experiment.query import Searcher, best
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import build, materials
from rsbench.registry import BACKBONES
from rsbench.results.store import write_json
from rsbench.training.checkpoint import read_tensors, write_tensors
from rsbench.training.scoring import score_part

RUNS = {
    "infonce": Request(methods=("infonce",), datasets=("toy",)),
    "pmpguard": Request(methods=("pmpguard",), datasets=("toy",), settings={"recipe.batch_size": ("32",)}),
    "tiny": Request(methods=("srem",), datasets=("toy",), backbone="tiny", tuning="full"),
}
K = 7


def untrained(request: Request, root: Path, out: Path) -> Path:
    """A finished run in all but the training."""
    spec = resolve(request, root)[0]
    shared = materials(spec, root)
    method = build(spec, shared.template, len(shared.dataset.pairs(spec.split, "train")), len(shared.dataset.classes))
    run = out / spec.hash
    run.mkdir()
    write_json(run / "spec.json", spec.as_dict())
    facts = {"noise": {"pairs": len(shared.dataset.pairs(spec.split, "train"))}, "status": "done", "schema": 1}
    write_json(run / "result.json", facts | {"dataset": {"classes": len(shared.dataset.classes)}})
    write_tensors(run / "weights.safetensors", method.state_dict())
    return run


@pytest.fixture(scope="module", params=RUNS)
def searcher(request: pytest.FixtureRequest, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    """Of 60 test images, so that methods that compare pair by pair are quick."""
    run = untrained(RUNS[request.param], data_root, tmp_path_factory.mktemp("runs"))
    data = open_dataset("toy", data_root)
    parts = data.splits["official"]
    small = replace(data, splits={"official": {**parts, "test": parts["test"][:60]}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query_module, "open_dataset", lambda *_: small)
        return Searcher(run, Scoring(data_root))


@pytest.fixture(scope="module")
def run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(RUNS["infonce"], data_root, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def plain(run: Path, data_root: Path) -> Searcher:
    return Searcher(run, Scoring(data_root))


def whole(searcher: Searcher) -> tuple[list[list[float]], np.ndarray]:
    """Scores of all images against all captions of the part as `rsbench eval` sees them, and those captions."""
    data, device = searcher.dataset, torch.device("cpu")
    tokens = bool(searcher.method.card.needs_of(searcher.spec.params))
    inputs = searcher.method.backbone.inputs(data, searcher.how.root / "features", tokens=tokens)
    scores = score_part(searcher.method, inputs, data, "official", "test", device)
    return scores.block(0, scores.n_images).tolist(), data.pairs("official", "test")[:, 1]


def test_a_query_of_the_datasets_own_finds_what_the_evaluation_finds(searcher):
    data = searcher.dataset
    images = [int(i) for i in data.part("official", "test")]
    scores, captions = whole(searcher)
    column = 123
    text, owner = data.captions[captions[column]], int(data.caption_image[captions[column]])
    ranked = sorted(range(len(images)), key=lambda i: -scores[i][column])[:K]
    found = searcher.text(f"  {text} ", K)
    assert [h.score for h in found.hits] == pytest.approx([scores[i][column] for i in ranked], abs=1e-5)
    assert [h.name for h in found.hits] == [data.filenames[images[i]] for i in ranked]
    for hit in found.hits:
        image = data.filenames.index(hit.name)
        own = [data.captions[c] for c in range(len(data.captions)) if data.caption_image[c] == image]
        assert hit.captions == tuple(dict.fromkeys(own))
        assert hit.right == (text in own)
        assert np.array_equal(hit.image, data.images[image])

    row = images.index(owner)
    by_text: dict[str, float] = {}
    for at, caption in enumerate(captions):
        by_text.setdefault(data.captions[caption], scores[row][at])
    best_texts = sorted(by_text.items(), key=lambda item: -item[1])[:K]
    answer = searcher.image(str(owner), K)
    assert answer.query == data.filenames[owner] and np.array_equal(answer.image, data.images[owner])
    assert [h.score for h in answer.hits] == pytest.approx([s for _, s in best_texts], abs=1e-5)
    own = {data.captions[c] for c in range(len(data.captions)) if data.caption_image[c] == owner}
    assert [h.right for h in answer.hits] == [h.captions[0] in own for h in answer.hits]
    assert {h.captions[0] for h in answer.hits if h.score > best_texts[-1][1] + 1e-5} <= {t for t, _ in best_texts}


def test_scores_do_not_depend_on_the_blocks(searcher, monkeypatch):
    found = [h.score for h in searcher.text("two blue cars near a river", K).hits]
    monkeypatch.setattr(query_module, "ENCODE_BATCH", 37)
    assert [h.score for h in searcher.text("two blue cars near a river", K).hits] == pytest.approx(found, abs=1e-6)


def test_a_drawn_gallery_answers_as_single_queries_do(searcher):
    i2t, t2i = searcher.draw(3, K, seed=1)
    assert [len(i2t), len(t2i)] == [3, 3]
    for found in i2t:
        alone = searcher.image(found.query, K)
        assert [h.score for h in found.hits] == pytest.approx([h.score for h in alone.hits], abs=1e-5)
        assert None not in [h.right for h in found.hits]
    for found in t2i:
        alone = searcher.text(found.query, K)
        assert [h.score for h in found.hits] == pytest.approx([h.score for h in alone.hits], abs=1e-5)
        assert None not in [h.right for h in found.hits]


def test_the_draw_depends_on_its_seed_alone(plain):
    first, again, other = ([f.query for side in plain.draw(4, 1, seed) for f in side] for seed in (0, 0, 1))
    assert first == again != other


def test_more_queries_or_hits_than_there_are(plain):
    assert len(plain.text("a river", 10_000).hits) == 500
    assert len(plain.draw(600, 1, 0)[0]) == 500


def test_equal_scores_keep_the_order_of_the_part():
    assert best(torch.tensor([0.5, 0.7, 0.5, 0.7, 0.1]), 3) == [1, 3, 0]


def test_a_text_that_no_image_owns_is_not_marked(plain):
    train = next(
        c
        for c in plain.dataset.pairs("official", "train")[:, 1].tolist()
        if plain.dataset.caption_text[c] not in plain.texts
    )
    for text in ("a river beside a stadium", plain.dataset.captions[train]):
        assert {h.right for h in plain.text(text, 5).hits} == {None}


def test_a_file_scores_as_the_same_picture_of_the_dataset_but_is_not_marked(plain, tmp_path):
    image = int(plain.images[3])
    Image.fromarray(np.asarray(plain.dataset.images[image])).save(tmp_path / "mine.png")
    own, mine = plain.image(plain.dataset.filenames[image], K), plain.image(str(tmp_path / "mine.png"), K)
    assert [h.score for h in own.hits] == [h.score for h in mine.hits]
    assert {h.right for h in mine.hits} == {None} and mine.query == "mine.png"
    outside = int(plain.dataset.part("official", "train")[0])
    assert {h.right for h in plain.image(str(outside), K).hits} == {None}


def test_a_picture_of_another_shape_is_squashed_as_the_store_does(tmp_path):
    Image.new("RGBA", (30, 20), (200, 10, 10, 255)).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", 16)
    assert found.shape == (16, 16, 3) and found[5, 5].tolist() == [200, 10, 10]


def test_what_cannot_be_asked(plain, run, tmp_path, data_root):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for text, words in (("  \n", "is empty"), ("xyzzy plugh", "no word"), ("🙂 ?!", "no word"), ("qxjzvkw", "no word")):
        with pytest.raises(UsageError, match=words):
            plain.text(text, 5)
    for name, words in (("broken.jpg", "not a readable image"), ("empty.png", "empty file")):
        with pytest.raises(DataError, match=words):
            plain.image(str(tmp_path / name), 5)
    for name in (str(tmp_path), "none.jpg", "2800", "-1", "x" * 5000, ""):
        with pytest.raises(UsageError, match="neither a picture file nor an image of toy"):
            plain.image(name, 5)
    with pytest.raises(UsageError, match="did you mean"):
        plain.image("scene_001.png", 5)
    with pytest.raises(UsageError, match="no run folder"):
        Searcher(tmp_path, Scoring(data_root))
    with pytest.raises(UsageError, match="no nothing part"):
        Searcher(run, Scoring(data_root, part="nothing"))


def test_a_run_without_weights_or_with_broken_ones(run, tmp_path, data_root):
    copy = tmp_path / run.name
    copy.mkdir()
    for name in ("spec.json", "result.json"):
        (copy / name).write_text((run / name).read_text())
    with pytest.raises(ResultError, match="no weights"):
        Searcher(copy, Scoring(data_root))
    tensors, _ = read_tensors(run / "weights.safetensors")
    name = next(n for n in tensors if n.endswith("image_head.0.weight"))
    write_tensors(copy / "weights.safetensors", tensors | {name: tensors[name] * float("nan")})
    with pytest.raises(NonFiniteError, match="NaN"):
        Searcher(copy, Scoring(data_root)).text("a river", 5)


def some(dataset: Dataset) -> Dataset:
    """Six images with their captions."""
    texts = dataset.captions[:30]
    images = np.ascontiguousarray(dataset.images[:6])
    return Dataset(
        "some", "f", images, "h", dataset.filenames[:6], texts, dataset.caption_image[:30], dataset.image_class[:6],
        dataset.classes, {"official": {"train": np.arange(6)}},
    )  # fmt: skip


def small_clip() -> str:
    path = Path(__file__).parents[1] / "backbones" / "small_clip.py"
    module_spec = importlib.util.spec_from_file_location("small_clip_of_queries", path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    module.register()
    return module.NAME


def backbones() -> list[str]:
    return ["toy", "tiny", "openclip", *(() if BACKBONES.entry("lite").missing else ("lite",))]


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("name", backbones())
def test_a_new_text_and_picture_read_as_those_of_a_dataset(name, tokens, data_root, tmp_path):
    params = {"lite": {"size": 64, "grid": 2, "words": 8}}.get(name, {})
    if name == "openclip":
        params = {"model": small_clip()}
    tuning = "heads" if name in ("toy", "lite") else "full"
    weights = "random" if name in ("openclip", "tiny") else ""
    backbone = build_backbone(name, tuning, weights, params, 0).eval()
    data = some(open_dataset("toy", data_root))
    backbone.fit(data, "official", tmp_path)
    there = backbone.inputs(data, tmp_path, tokens=tokens)
    at = 13
    row, image = int(data.caption_text[at]), 4

    def use(inputs):
        check_known(data.captions[at], inputs)
        first = torch.tensor([0])
        cpu = torch.device("cpu")
        return backbone.encode_image(inputs.images(first, cpu)), backbone.encode_text(inputs.texts(first, cpu))

    before = sorted(tmp_path.iterdir())
    with torch.no_grad():
        new = inputs_of(backbone, data.images[image], data.captions[at], tokens, use)
        old_image = backbone.encode_image(there.images(torch.tensor([image]), torch.device("cpu")))
        old_text = backbone.encode_text(there.texts(torch.tensor([row]), torch.device("cpu")))
    for found, wanted in zip(new, (old_image, old_text), strict=True):
        assert torch.allclose(found.pooled, wanted.pooled, atol=2e-4)
        assert (found.tokens is None) == (wanted.tokens is None)
        if found.tokens is not None:
            assert torch.equal(found.kind, wanted.kind)
            content = found.kind == 0
            assert torch.allclose(found.tokens[content], wanted.tokens[content], atol=2e-2)
    assert sorted(tmp_path.iterdir()) == before, "the user's cache stays as it is"


@pytest.mark.parametrize("name", backbones())
def test_unknown_words_are_refused_by_vocabularies_of_whole_words_alone(name, data_root, tmp_path):
    params = {"lite": {"size": 64, "grid": 2, "words": 8}}.get(name, {})
    if name == "openclip":
        params = {"model": small_clip()}
    tuning = "heads" if name in ("toy", "lite") else "full"
    backbone = build_backbone(name, tuning, "random" if name in ("openclip", "tiny") else "", params, 0).eval()
    data = some(open_dataset("toy", data_root))
    backbone.fit(data, "official", tmp_path)
    picture = data.images[0]
    partly = f"plugh {data.captions[0]}"
    inputs_of(backbone, picture, partly, False, lambda x: check_known(partly, x))
    if name in ("toy", "tiny"):
        with pytest.raises(UsageError, match="knows no word of 'plugh xyzzy'"):
            inputs_of(backbone, picture, "plugh xyzzy", False, lambda x: check_known("plugh xyzzy", x))
    else:
        inputs_of(backbone, picture, "plugh xyzzy", False, lambda x: check_known("plugh xyzzy", x))


def test_meaningless_words():
    assert meaningless("a 2nd river!") == "qxjzvkw qxjzvkw qxjzvkw!"
    assert meaningless("?!") == meaningless("qxjzvkw") == ""


def test_the_run_folder_is_not_written_to(run, plain):
    plain.text("a river", 5)
    assert sorted(p.name for p in run.iterdir()) == ["result.json", "spec.json", "weights.safetensors"]
    assert json.loads((run / "result.json").read_text())["status"] == "done"
