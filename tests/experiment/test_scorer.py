"""Scorers of kind ``pmp``: names by content, scores of pairs, and lists made from a finished run."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rsbench.backbones import hub
from rsbench.cli.app import main
from rsbench.data.lifecycle import open_dataset
from rsbench.errors import DependencyError, NoiseError, RsbenchError, UnknownNameError, UsageError, WeightsError
from rsbench.experiment import scorer
from rsbench.experiment.evaluate import trained_method
from rsbench.experiment.request import Request, read_config
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute
from rsbench.experiment.scorer import scorer_address
from rsbench.noise.make import make_index
from rsbench.noise.pseudo_match_store import manifest_path, read_manifest
from rsbench.report.build import build_tables
from rsbench.report.scores import plot_scores, text_histogram
from rsbench.training.pair_scorer import PairScorer
from rsbench.training.scoring import score_part

CLEAN = Request(methods=("infonce",), datasets=("toy",), settings={"recipe.epochs": ("1",)})


@pytest.fixture(scope="module")
def root(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of its own, with the toy set: lists of other tests are not seen."""
    open_dataset("toy", data_root)
    folder = tmp_path_factory.mktemp("root")
    for part in ("datasets", "features"):
        if (data_root / part).exists():
            (folder / part).symlink_to(data_root / part)
    return folder


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run without noise."""
    out = tmp_path_factory.mktemp("results")
    spec = resolve(CLEAN, root)[0]
    execute(spec, Options(root, out, "cpu"))
    return out / spec.hash


def pmp(run: Path, **change: object) -> Request:
    return dataclasses.replace(CLEAN, rates=(0.4,), kind="pmp", scorer=f"run:{run}", **change)  # type: ignore[arg-type]


def test_names_by_content(run: Path, tmp_path: Path) -> None:
    assert scorer_address(None) == scorer_address("georsclip") == "georsclip"
    assert scorer_address("openclip:ViT-B-32-quickgelu/openai") == "openclip:ViT-B-32-quickgelu/openai"
    shutil.copytree(run, tmp_path / "copy")
    assert scorer_address(f"run:{run}") == scorer_address(f"run:{tmp_path / 'copy'}") == f"run:{run.name}"
    assert scorer_address(f"run:gone/{run.name}") == f"run:{run.name}", "its lists may still be here"
    files = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for file in files:
        file.write_bytes(b"weights")
    first, second = (scorer_address(f"georsclip:{f}") for f in files)
    assert first == second == scorer_address(first)


@pytest.mark.parametrize(
    ("typed", "error", "says"),
    [
        ("blip", UnknownNameError, "run:PATH"),
        ("run:", UnknownNameError, "run:PATH"),
        ("run:nowhere", UsageError, r"no spec\.json"),
        ("georsclip:nowhere.pt", UsageError, r"--scorer georsclip:FILE, or a finished run with --scorer run:"),
        ("openclip:ViT-B-32", UnknownNameError, "openclip:MODEL/TAG"),
    ],
)
def test_names_that_are_none(typed: str, error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        scorer_address(typed)


def test_missing_weights_name_both_ways_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reachable", lambda address: False)
    with pytest.raises(WeightsError, match="--scorer georsclip:FILE, or a finished run with --scorer run:results/HASH"):
        resolve(dataclasses.replace(CLEAN, rates=(0.4,), kind="pmp"), root)


@pytest.mark.parametrize("own", [False, True])
def test_scores_of_pairs_are_entries_of_the_whole_matrix(run: Path, root: Path, own: bool) -> None:
    _, method = trained_method(run)
    if own:  # a method whose similarity is not the cosine of pooled vectors
        method.__class__ = type("Own", (type(method),), {"similarity": lambda self, i, t: _manhattan(i, t)})
    data = open_dataset("toy", root)
    inputs = method.backbone.inputs(data, root / "features")
    scores = PairScorer(method, data, "official", inputs)
    assert scores.cosine is not own
    part = score_part(method, inputs, data, "official", "train", torch.device("cpu"))
    whole = part.block(0, 40).numpy()
    pairs, images = data.pairs("official", "train"), data.part("official", "train")
    rows, columns = np.random.RandomState(0).randint(0, 40, 300), np.random.RandomState(1).randint(0, len(pairs), 300)
    np.testing.assert_allclose(scores(images[rows], pairs[columns, 1]), whole[rows, columns], atol=1e-5)


def _manhattan(image, text):
    return -torch.cdist(image.pooled, text.pooled, p=1)


def test_a_list_of_a_run(run: Path, root: Path, tmp_path: Path) -> None:
    spec = resolve(pmp(run), root)[0]
    assert (spec.noise.kind, spec.noise.scorer, spec.noise.threshold) == ("pmp", f"run:{run.name}", None)
    data = open_dataset("toy", root)
    manifest = read_manifest(data, "official", spec.noise, root)
    assert manifest["sha256"] == spec.noise_sha256
    assert manifest["mismatched"]["mean"] < manifest["threshold"] < manifest["matched"]["mean"]
    assert manifest["scorer"]["method"] == "infonce:full"
    index = make_index(data, "official", spec.noise, root)
    changed = (index.pairs != data.pairs("official", "train")).any(axis=1)
    assert changed.sum() == int(0.4 * len(changed))

    moved = tmp_path / "elsewhere"
    shutil.copytree(run, moved)
    shutil.rmtree(moved / "pairs", ignore_errors=True)
    (moved / "weights.safetensors").unlink()
    assert resolve(pmp(moved), root)[0].hash == spec.hash, "neither place nor weights matter once the list is made"

    result = execute(spec, Options(root, tmp_path, "cpu"))
    assert result["noise"]["threshold"] == manifest["threshold"]
    assert result["noise"]["share_fallback"] == manifest["share_fallback"]
    assert result["noise"]["scorer"]["name"] == spec.noise.scorer
    assert "auroc" in result["detection"]["best"]
    clean = execute(resolve(CLEAN, root)[0], Options(root, run.parent, "cpu"))
    (table,) = build_tables([result, clean])
    assert "pmp noise per caption" in table.title
    assert any(f"scored by {spec.noise.scorer} below" in note for note in table.notes)
    assert "settings" not in [c.key for c in table.columns]


def test_a_threshold_of_ones_own(run: Path, root: Path) -> None:
    data = open_dataset("toy", root)
    given, share = (resolve(pmp(run, **c), root)[0] for c in ({"pmp_threshold": 0.1}, {"pmp_quantile": 0.3}))
    assert read_manifest(data, "official", given.noise, root)["threshold"] == 0.1
    assert read_manifest(data, "official", share.noise, root)["share_below"] == pytest.approx(0.3, abs=0.01)
    with pytest.raises(NoiseError, match=r"0\.00 % of random mismatched pairs"):
        resolve(pmp(run, pmp_threshold=-2.0), root)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pmp_threshold": 0.1, "pmp_quantile": 0.3}, "give one of them"),
        ({"kind": "shuffle"}, "belong to noise kind pmp"),
        ({"kind": "shuffle", "rates": (0.0,)}, "belong to noise kind pmp"),
        ({"source": "file:theirs"}, "the list is made"),
        ({"source": "official"}, "official"),
    ],
)
def test_flags_that_contradict(run: Path, root: Path, change: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolve(dataclasses.replace(pmp(run), **change), root)


def test_a_scorer_trained_on_noisy_pairs_is_told(root: Path, tmp_path: Path) -> None:
    noisy = resolve(dataclasses.replace(CLEAN, rates=(0.4,)), root)[0]
    execute(noisy, Options(root, tmp_path, "cpu"))
    spec = resolve(pmp(tmp_path / noisy.hash), root)[0]
    (warning,) = read_manifest(open_dataset("toy", root), "official", spec.noise, root)["warnings"]
    assert "itself trained on noisy pairs (shuffle 0.4)" in warning


def test_a_scorer_without_weights(run: Path, root: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "bare")
    (tmp_path / "bare" / "weights.safetensors").unlink()
    scorer._scorer.cache_clear()
    with pytest.raises(RsbenchError, match="has no weights"):
        resolve(pmp(tmp_path / "bare", noise_seed="77"), root)
    with pytest.raises(NoiseError, match="no such run folder"):
        resolve(dataclasses.replace(pmp(run), scorer=f"run:gone/{run.name}", noise_seed="78"), root)


def test_a_plan_with_a_made_list_starts_without_torch(run: Path, root: Path) -> None:
    resolve(pmp(run), root)
    words = ["plan", "-d", "toy", "-m", "infonce", "-n", "0.4", "--noise-kind", "pmp", "--scorer", f"run:{run}"]
    script = (
        "import sys; from rsbench.cli.app import main; "
        "code = main(sys.argv[1:]); sys.exit(code or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--root", str(root)], env={**os.environ}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_pictures_of_the_scores(run: Path, root: Path, tmp_path: Path) -> None:
    spec = resolve(pmp(run), root)[0]
    data = open_dataset("toy", root)
    manifest = read_manifest(data, "official", spec.noise, root)
    lines = text_histogram(manifest)
    assert sum("<- threshold" in line for line in lines) == 1
    assert manifest_path(data, "official", spec.noise, root).is_file()
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf"):
        plot_scores(manifest, tmp_path / "x.gif")
    pytest.importorskip("matplotlib")
    plot_scores(manifest, tmp_path / "x.svg")
    first = (tmp_path / "x.svg").read_bytes()
    plot_scores(manifest, tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_bytes() == first
    assert first.rstrip().endswith(b"</svg>")


def test_pictures_without_matplotlib_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"pip install 'rsbench\[report\]'"):
        plot_scores({}, tmp_path / "x.svg")


def test_the_command_makes_shows_and_draws_a_list(
    run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["noise", "toy", "--kind", "pmp", "--rate", "0.2", "--root", str(root), "--scorer", f"run:{run}"]
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["threshold_from"], facts["realised"]["moved"]) == ("pmp", "boundary", 0.2)
    assert facts["scorer"]["name"] == f"run:{run.name}"
    assert main([*words, "--export", str(tmp_path / "x.npy")]) == 2
    assert "no permutation" in capsys.readouterr().err
    assert main(["noise", "toy", "--rate", "0.2", "--root", str(root), "--plot", str(tmp_path / "x.png")]) == 2
    assert "--kind pmp" in capsys.readouterr().err
    assert main([*words, "--import", "x.csv"]) == 2
    assert "--scorer" in capsys.readouterr().err


def test_flags_in_a_config_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('scorer = "run:x"\npmp_threshold = 1\npmp_quantile = 0.5\n')
    assert read_config(file) == {"scorer": "run:x", "pmp_threshold": 1.0, "pmp_quantile": 0.5}
    file.write_text('pmp_threshold = "low"\n')
    with pytest.raises(UsageError, match="must be a number"):
        read_config(file)
