"""What `rsbench diagnose` says of a run is what the run's records and the true pairs say."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rsbench.cli.app import main
from rsbench.experiment.diagnose import diagnose, epoch_numbers, figures, noise_share
from rsbench.experiment.evaluate import trained_method
from rsbench.experiment.pair_gallery import lowest, rejected, suspects
from rsbench.experiment.pair_records import PairRecords, open_records
from rsbench.experiment.rematch import rematch
from rsbench.training.checkpoint import read_tensors, write_tensors

SREM_FIGURES = {
    "clean_score", "detection", "division", "weights", "energy_i2t", "energy_t2i", "noise_pull", "terms", "records",
}  # fmt: skip


def make_run(out: Path, root: Path, *words: str) -> Path:
    quick = ["--set", "recipe.epochs=3", "--jobs", "1", "--dataset", "toy", "--root", str(root), "--out", str(out)]
    assert main(["run", *words, *quick]) == 0
    return next(out.glob("*/result.json")).parent


@pytest.fixture(scope="module")
def srem(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("srem")
    return make_run(out, data_root, "--method", "srem", "--noise", "0.4", "--set", "method.warmup_epochs=1")


@pytest.fixture
def copy(srem: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(srem, tmp_path / srem.name))


def add(run: Path, epoch: int, **values: torch.Tensor) -> None:
    """Put further records into an epoch."""
    path = run / "pairs" / f"epoch-{epoch:03d}.safetensors"
    write_tensors(path, {**read_tensors(path)[0], **values})


def truth_of(records: PairRecords) -> list[bool]:
    """Whether each shown text is missing among the given image's own, pair by pair."""
    data = records.dataset
    own: dict[int, set[str]] = {}
    for caption, image in enumerate(data.caption_image):
        own.setdefault(int(image), set()).add(data.captions[caption])
    return [data.captions[c] not in own[int(i)] for i, c in records.index.pairs]


def test_numbers_are_those_of_the_history_and_of_a_plain_count(srem, data_root):
    records = open_records(srem, data_root)
    wrong = truth_of(records)
    assert records.truth is not None and records.truth.tolist() == wrong
    rows = epoch_numbers(records)
    history = [json.loads(line) for line in (srem / "history.jsonl").read_text().splitlines()]
    for row, line in zip(rows, history, strict=True):
        for name in ("auroc", "ap", "missing"):
            assert row[name] == line["pairs"]["detection"][name]
        assert row["val_mr"] == line["val"]["mr"]
    assert "share_clean" not in rows[0], "warm-up divides nothing"
    kept = read_tensors(srem / "pairs" / "epoch-002.safetensors")[0]
    parts = kept["division"].tolist()
    for value, name in enumerate(("clean", "ambiguous", "noisy")):
        inside = [not w for w, part in zip(wrong, parts, strict=True) if part == value]
        assert rows[2][f"share_{name}"] == pytest.approx(len(inside) / sum(p >= 0 for p in parts))
        assert rows[2][f"purity_{name}"] == pytest.approx(sum(inside) / len(inside))
    for way in ("i2t", "t2i"):
        pulls = [(p, w) for p, w in zip(kept[f"pull_{way}"].tolist(), wrong, strict=True) if p == p]
        assert rows[2][f"noise_pull_{way}"] == pytest.approx(sum(p for p, w in pulls if w) / sum(p for p, _ in pulls))


def test_noise_gradient_ratio_by_hand():
    pull, wrong = np.array([1.0, np.nan, 3.0, 0.0], np.float32), np.array([False, True, True, True])
    assert noise_share(pull, wrong) == 0.75
    assert np.isnan(noise_share(np.zeros(4), wrong))


def test_the_command_leaves_one_page_with_every_figure(srem, data_root, tmp_path, capsys):
    assert main(["diagnose", str(srem), "--root", str(data_root), "--out", str(tmp_path), "--images", "40"]) == 0
    shown = capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["figures"]) == SREM_FIGURES
    for name in SREM_FIGURES:
        assert Image.open(tmp_path / f"{name}.png").size[1] > 200
        assert (tmp_path / f"{name}.svg").stat().st_size > 1000
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    titles = ["Believed most mismatched", "Clean, but suspected", "Mismatched, but trusted", "Alike, but rejected"]
    assert all(title in page for title in [*titles, "Rematched captions"])
    assert page.count('class="card ') == 5 * 12
    assert "mismatched pairs: 3,99" in shown and "purity clean" in shown and "rematched original@10: " in shown
    assert f"{summary['epochs'][2]['auroc']:.3f}" in shown
    assert set(summary["rematch"]) == {"given@1", *(f"{k}@{n}" for k in ("own", "original") for n in (1, 5, 10))}
    assert "a draw of 40 of" in summary["notes"][0]


def test_rematched_captions_are_those_of_the_whole_matrix(srem, data_root):
    records = open_records(srem, data_root)
    found = rematch(records, 30, "cpu")
    data, pairs, clean = records.dataset, records.index.pairs, records.dataset.pairs("official", "train")
    images = sorted({int(pairs[r, 0]) for r in found.rows})
    assert (found.images, len(images)) == (30, 30)
    assert all(records.truth[r] for r in found.rows)
    _, method = trained_method(srem)
    inputs = method.backbone.inputs(data, data_root / "features", tokens=False)
    texts = sorted({int(data.caption_text[c]) for c in pairs[:, 1]})
    method.eval()
    with torch.no_grad():
        image = method.encode_images(inputs.images(torch.tensor(images), torch.device("cpu")))
        scores = method.similarity(image, method.encode_texts(inputs.texts(torch.tensor(texts), torch.device("cpu"))))
    hits = {"own": 0, "original": 0, "given": 0}
    for row, top in zip(found.rows, found.top, strict=True):
        line = scores[images.index(int(pairs[row, 0]))].tolist()
        best = [texts[i] for i in sorted(range(len(texts)), key=lambda i: -line[i])[:10]]
        values = {texts[i]: v for i, v in enumerate(line)}
        assert [values[t] for t in top] == pytest.approx([values[t] for t in best], abs=1e-5)
        own = {int(data.caption_text[c]) for c in data.captions_of[int(pairs[row, 0])]}
        hits["own"] += bool(own & set(top[:5].tolist()))
        hits["original"] += int(data.caption_text[clean[row, 1]]) in top[:5]
        hits["given"] += int(data.caption_text[pairs[row, 1]]) == top[0]
    assert found.shares["own@5"] == pytest.approx(hits["own"] / len(found.rows))
    assert found.shares["original@5"] == pytest.approx(hits["original"] / len(found.rows))
    assert found.shares["given@1"] == pytest.approx(hits["given"] / len(found.rows))
    assert found.shares["own@5"] > 0.1, "chance is about 0.003"


def test_galleries_show_the_extremes_and_the_mistakes(srem, data_root):
    records = open_records(srem, data_root)
    score = records.read(2, "clean_score")
    assert score is not None and records.truth is not None
    sections = {s.title: s for s in suspects(records, 2)}
    seen = sorted((float(v), i) for i, v in enumerate(score) if v == v)
    wanted = [f"score {v:.3f}" for v, _ in seen[:12]]
    assert [c.title for c in sections["Believed most mismatched"].cards] == wanted
    wanted = [f"score {v:.3f}" for v, i in seen if not records.truth[i]][:12]
    assert [c.title for c in sections["Clean, but suspected"].cards] == wanted
    assert {c.mark for c in sections["Mismatched, but trusted"].cards} == {"mismatched"}
    first = sections["Mismatched, but trusted"].cards[0]
    assert first.title == f"score {max(v for v, i in seen if records.truth[i]):.3f}"
    assert [name for name, _ in first.captions].count("own caption of the image") >= 1


def test_lowest_skips_what_was_not_visited():
    values = np.array([3.0, np.nan, 1.0, 1.0, 0.0])
    assert lowest(values, np.array([True, True, True, True, False]), 3).tolist() == [2, 3, 0]


def test_a_records_name_decides_its_figure(copy, data_root):
    """Made-up records of other methods: a constant weight, ReCon's posterior, PMPGuard's boundary, RDB's weights."""
    n = 10_000
    ramp = torch.linspace(0, 1, n)
    for epoch, weight in ((0, torch.ones(n)), (1, ramp), (2, ramp**2)):
        add(copy, epoch, weight=weight, y_cm=1 - ramp, y_im=ramp)
    lines = [json.loads(line) for line in (copy / "history.jsonl").read_text().splitlines()]
    more = {"t_k": 0.4, "mu_pos": 0.6, "sd_pos": 0.1, "mu_neg": 0.2, "sd_neg": 0.1, "weight_cls": 0.5}
    (copy / "history.jsonl").write_text("".join(json.dumps(line | more) + "\n" for line in lines))
    records = open_records(copy, data_root)
    drawn = {p.name: figure for p, figure in figures(records, epoch_numbers(records))}
    assert set(drawn) == SREM_FIGURES | {"boundary", "loss_weights"}
    titles = [axis.get_title() for axis in drawn["weights"].axes]
    assert [t.replace(" (best)", "") for t in titles if t.startswith("weight,")] == [
        "weight, epoch 2",
        "weight, epoch 3",
    ]
    assert {"y_cm", "y_im", "entropy_i2t"} <= {axis.get_title() for axis in drawn["records"].axes}
    assert "t_k" not in {axis.get_title() for axis in drawn["terms"].axes}
    (section,) = rejected(records, 2)
    division = records.read(2, "division")
    assert section.cards[0].title == f"y_cm {max((1 - ramp)[division > 0].tolist()):.3f}"


def test_a_run_without_noise_has_one_group(tmp_path, data_root, capsys):
    run = make_run(tmp_path, data_root, "--method", "infonce", "--noise", "0")
    assert main(["diagnose", str(run), "--root", str(data_root)]) == 0
    assert "No pair of this run is known to be mismatched" in capsys.readouterr().out
    summary = json.loads((run / "diagnosis" / "summary.json").read_text())
    assert set(summary["figures"]) == {"clean_score", "terms", "records"}
    assert summary["rematch"] == {}
    page = (run / "diagnosis" / "index.html").read_text(encoding="utf-8")
    assert "Believed most mismatched" in page and "Clean, but suspected" not in page


def test_a_stopped_run_is_drawn_from_what_it_left(copy, data_root, tmp_path, monkeypatch):
    drawn: list[str] = []
    monkeypatch.setattr("rsbench.experiment.diagnose.save", lambda figure, folder, name: drawn.append(name))
    for name in ("result.json", "history.jsonl", "weights.safetensors"):
        (copy / name).unlink()
    (copy / "pairs" / "epoch-002.safetensors").unlink()
    found = diagnose(copy, data_root, tmp_path / "page")
    assert [row["epoch"] for row in found.epochs] == [0, 1]
    assert set(drawn) == SREM_FIGURES - {"terms"}
    assert (tmp_path / "page" / "index.html").exists()
    assert len(found.notes) == 1 and "Rematched captions are left out: run" in found.notes[0]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_bad_folders_end_with_one_line(copy, data_root, tmp_path, capsys):
    assert main(["diagnose", str(tmp_path / "nothing"), "--root", str(data_root)]) == 2
    assert "is no run folder" in one_line(capsys)
    assert main(["diagnose", str(copy), "--root", str(data_root), "--images", "-1"]) == 2
    assert "--images -1 is negative" in one_line(capsys)
    (copy / "pairs" / "epoch-001.safetensors").write_bytes(b"cut")
    assert main(["diagnose", str(copy), "--root", str(data_root)]) == 2
    assert "epoch-001.safetensors is damaged" in one_line(capsys)
    shutil.rmtree(copy / "pairs")
    assert main(["diagnose", str(copy), "--root", str(data_root)]) == 2
    said = one_line(capsys)
    assert "has no pair records" in said
    assert "rsbench run --dataset toy --method srem --backbone toy --noise 0.4 --noise-kind shuffle" in said


def test_records_of_other_data_are_refused(copy, data_root, capsys):
    add(copy, 2, extra=torch.zeros(7))
    assert main(["diagnose", str(copy), "--root", str(data_root)]) == 2
    assert "'extra' has shape [7], the run has 10000 pairs" in one_line(capsys)
    spec = json.loads((copy / "spec.json").read_text())
    for key, value, says in (
        ("fingerprint", "0" * 64, "has fingerprint"),
        ("dataset", "nwpu", "dataset 'nwpu' is not prepared"),
        ("dataset", "toyy", "unknown dataset 'toyy'"),
    ):
        (copy / "spec.json").write_text(json.dumps(spec | {key: value}))
        assert main(["diagnose", str(copy), "--root", str(data_root)]) == 2
        assert says in one_line(capsys)


@pytest.mark.parametrize("words", ["diagnose {run}", "audit toy --method rcl --out {run}/audit"])
def test_a_missing_extra_is_said_before_any_work(words, srem, data_root, capsys, monkeypatch):
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "jinja2" else original(n, *a))
    assert main([*words.format(run=srem).split(), "--root", str(data_root)]) == 2
    assert one_line(capsys) == "error: figures and pages need jinja2; install with: pip install 'rsbench[report]'"
    assert not (srem / "audit").exists()
