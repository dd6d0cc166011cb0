"""The main job as typed: plan, run, resume, table, eval."""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from rsbench.backbones.cards.openclip import OPENCLIP
from rsbench.cli.app import main
from rsbench.data.sets.toy import CARD as TOY
from rsbench.results.store import RunFolder

QUICK = ["--set", "recipe.epochs=2", "--set", "recipe.validate_every=2"]
GRID = ["--dataset", "toy", "--method", "infonce,rcl", "--noise", "0,0.4", "--seeds", "2", *QUICK]


@pytest.fixture(scope="module")
def grid(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with eight small runs, made by the command line."""
    out = tmp_path_factory.mktemp("grid")
    assert main(["run", *GRID, "--out", str(out), "--root", str(data_root), "--jobs", "1"]) == 0
    return out


def hashes(out: Path) -> list[str]:
    return sorted(p.parent.name for p in out.glob("*/result.json"))


def test_the_command_of_the_readme_resolves_as_typed(capsys, tmp_path):
    assert main(["plan", "--method", "srem", "--noise", "0.4", "--seeds", "5", "--out", str(tmp_path), "--json"]) == 0
    jobs = json.loads(capsys.readouterr().out)
    assert [j["spec"]["seed"] for j in jobs] == [0, 1, 2, 3, 4]
    assert {(j["spec"]["dataset"], j["spec"]["backbone"], j["spec"]["noise"]["rate"]) for j in jobs} == {
        ("toy", "toy", 0.4)
    }
    assert {j["state"] for j in jobs} == {"new"}
    assert not list(tmp_path.iterdir()), "a plan writes nothing"


def test_a_grid_leaves_one_whole_folder_for_each_run(grid):
    assert len(hashes(grid)) == 8
    for name in hashes(grid):
        folder = RunFolder(grid, name)
        kept = {p.name for p in folder.path.iterdir()}
        assert kept == {
            "spec.json",
            "result.json",
            "history.jsonl",
            "log.txt",
            "pairs",
            "weights.safetensors",
            "ranks.safetensors",
            ".lock",
        }
        result = folder.read_result()
        assert result["hash"] == name
        assert result["test"]["best"]["mr"] > 10, "chance is 0.4"
        noisy = result["spec"]["noise"]["rate"] > 0
        assert ("best" in result["detection"]) == noisy
        assert result["noise"]["mismatched"] == pytest.approx(0.4 if noisy else 0.0, abs=0.01)
        assert len(folder.history.read_text().splitlines()) == 2


def test_the_resolved_line_runs_the_same_grid_and_nothing_is_done_twice(grid, capsys, data_root):
    before = {n: (grid / n / "result.json").stat().st_mtime_ns for n in hashes(grid)}
    assert main(["run", *GRID, "--out", str(grid), "--root", str(data_root), "--jobs", "1"]) == 0
    line, *rest = capsys.readouterr().out.splitlines()
    assert line.startswith("rsbench run --dataset toy --split official --method infonce,rcl --noise 0,0.4 ")
    assert "8 of 8 runs are kept" in rest[0]
    assert any("mR" in text and "AUROC" in text for text in rest), "the table is printed again"
    assert main(["run", *line.split()[2:], "--root", str(data_root)]) == 0
    assert {n: (grid / n / "result.json").stat().st_mtime_ns for n in hashes(grid)} == before


def test_a_config_file_says_the_same_and_typed_flags_win(grid, capsys, tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'dataset = "toy"\nmethod = ["infonce", "rcl"]\nnoise = [0, 0.4]\nseeds = 2\n'
        f'out = "{grid}"\n[set]\n"recipe.epochs" = 2\n"recipe.validate_every" = 2\n'
    )
    assert main(["plan", "--config", str(path), "--json"]) == 0
    assert {j["state"] for j in json.loads(capsys.readouterr().out)} == {"done"}
    assert main(["plan", "--config", str(path), "--seeds", "3", "--json"]) == 0
    states = [j["state"] for j in json.loads(capsys.readouterr().out)]
    assert (states.count("done"), states.count("new")) == (8, 4)


def test_table_of_the_grid(grid, capsys):
    assert main(["table", str(grid), "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("infonce" in line for line in lines) == 2
    assert sum("rcl" in line for line in lines) == 2


def test_eval_repeats_the_stored_test_figures(grid, capsys, data_root):
    runs = [str(grid / n) for n in hashes(grid)[:2]]
    assert main(["eval", *runs, "--root", str(data_root), "--json"]) == 0
    for row in json.loads(capsys.readouterr().out):
        stored = RunFolder(grid, row["run"]).read_result()["test"]["best"]
        assert row["metrics"] == stored
        assert not row["zero_shot"]
        assert (grid / row["run"] / "eval-toy-official-test.json").exists()


def test_eval_in_folds_and_on_other_parts(grid, capsys, data_root):
    run = str(grid / hashes(grid)[0])
    found = {}
    for words in (["--folds", "5"], ["--part", "val"], []):
        assert main(["eval", run, "--root", str(data_root), "--json", *words]) == 0
        found[" ".join(words)] = json.loads(capsys.readouterr().out)[0]["metrics"]["mr"]
    assert found["--folds 5"] > found[""], "100 candidates are easier than 500"
    assert found["--part val"] != found[""]


def test_a_dataset_that_papers_score_over_folds(capsys, tmp_path, data_root, monkeypatch):
    monkeypatch.setattr("rsbench.data.sets.toy.CARD", dataclasses.replace(TOY, folds=5))
    words = ["--dataset", "toy", "--method", "infonce", "--noise", "0", "--seeds", "1", *QUICK]
    words += ["--out", str(tmp_path), "--root", str(data_root), "--jobs", "1"]
    assert main(["run", *words]) == 0
    (name,) = hashes(tmp_path)
    result = RunFolder(tmp_path, name).read_result()
    capsys.readouterr()
    assert main(["eval", str(tmp_path / name), "--folds", "5", "--root", str(data_root), "--json"]) == 0
    assert result["folds"]["n"] == 5
    assert result["folds"]["best"] == json.loads(capsys.readouterr().out)[0]["metrics"]
    assert result["folds"]["last"]["mr"] > result["test"]["last"]["mr"], "100 candidates are easier than 500"

    monkeypatch.setattr("rsbench.data.sets.toy.CARD", dataclasses.replace(TOY, folds=7))
    assert main(["run", *words, "--overwrite", "always"]) == 0
    result = RunFolder(tmp_path, name).read_result()
    assert "folds" not in result
    assert any("no means over 7 folds: the test part has 500 images" in w for w in result["warnings"])


def test_validation_only_never_reads_the_test_part(capsys, tmp_path, data_root, monkeypatch):
    from rsbench.experiment import run as experiment

    parts = []
    original = experiment.score_part
    monkeypatch.setattr(experiment, "score_part", lambda *args: parts.append(args[4]) or original(*args))
    words = ["run", "--dataset", "toy", "--method", "vse", "--noise", "0.4", "--validation-only", *QUICK]
    assert main([*words, "--out", str(tmp_path), "--root", str(data_root), "--jobs", "1"]) == 0
    assert parts == ["val"]
    result = RunFolder(tmp_path, hashes(tmp_path)[0]).read_result()
    assert "test" not in result
    shown = capsys.readouterr().out
    assert "VALIDATION ONLY" in shown
    again = shlex.split(shown.splitlines()[0])[2:]
    assert main(["plan", *again, "--root", str(data_root), "--json"]) == 0
    assert [j["state"] for j in json.loads(capsys.readouterr().out)] == ["done"], "the printed line is the same grid"


def test_the_test_part_is_read_once(tmp_path, data_root, monkeypatch):
    from rsbench.experiment import run as experiment

    parts = []
    original = experiment.score_part
    monkeypatch.setattr(experiment, "score_part", lambda *args: parts.append(args[4]) or original(*args))
    words = ["run", "--dataset", "toy", "--method", "vse", "--noise", "0.4", "--set", "recipe.epochs=3"]
    assert main([*words, "--out", str(tmp_path), "--root", str(data_root), "--jobs", "1"]) == 0
    assert parts[:3] == ["val"] * 3
    assert set(parts[3:]) == {"test"} and len(parts) <= 5, "after training: last and best epoch"


def test_a_users_own_file_runs_like_a_built_in_method(tmp_path, data_root, capsys):
    example = Path(__file__).parents[2] / "docs" / "examples" / "my_method.py"
    own = tmp_path / "mine.py"
    own.write_text(example.read_text())
    words = [
        "run",
        "--dataset",
        "toy",
        "--method",
        str(own),
        "--noise",
        "0.4",
        *QUICK,
        "--set",
        "method.warmup_epochs=1",
    ]
    words += ["--root", str(data_root), "--jobs", "1", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    result = RunFolder(tmp_path / "out", hashes(tmp_path / "out")[0]).read_result()
    assert result["detection"]["best"]["detector"] == "native"
    assert "precision" in result["detection"]["best"]
    assert len(result["spec"]["revisions"]["method_file"]) == 64
    own.write_text(own.read_text() + "\n# another version\n")
    capsys.readouterr()
    assert main(["plan", *words[1:-4], "--out", str(tmp_path / "out"), "--json"]) == 0
    assert [j["state"] for j in json.loads(capsys.readouterr().out)] == ["new"], "a changed file is another run"


def test_a_failed_run_ends_with_one_and_the_reason(tmp_path, data_root, capsys):
    broken = tmp_path / "broken.py"
    example = Path(__file__).parents[2] / "docs" / "examples" / "my_method.py"
    good, bad = "total = per_pair[trusted].mean()", "total = per_pair.sum() + per_pair.detach().neg().log().sum()"
    broken.write_text(example.read_text().replace(good, bad))
    words = ["run", "--dataset", "toy", "--method", f"infonce,{broken}", "--noise", "0.4", *QUICK]
    assert main([*words, "--root", str(data_root), "--jobs", "1", "--out", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    assert "the loss is nan at epoch 1, step 1" in shown.out
    assert "1 of 2 runs did not finish" in shown.err
    states = {RunFolder(tmp_path / "out", n).state() for n in hashes(tmp_path / "out")}
    assert states == {"done", "failed"}


def other_dataset(root: Path) -> None:
    """A store named ``ucm`` with three test images whose captions use toy words."""
    from rsbench.data.lifecycle import store_folder
    from rsbench.data.parts import Parts
    from rsbench.data.store import write_store

    folder = store_folder(root, "ucm")
    if folder.exists():
        return
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 255, (3, 48, 48, 3), dtype=np.uint8)
    parts = Parts(
        name="ucm", images=images, filenames=["a", "b", "c"], captions=["two red cars", "a river", "three tents"],
        caption_image=[0, 1, 2], classes=(), image_class=[-1] * 3,
        splits={"official": {"test": [0, 1, 2]}},
    )  # fmt: skip
    write_store(folder, parts)


def test_eval_on_another_dataset_reads_it_with_the_runs_own_statistics(grid, capsys, data_root):
    other_dataset(data_root)
    run = str(grid / hashes(grid)[0])
    assert main(["eval", run, "--dataset", "ucm", "--root", str(data_root), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert (row["trained_on"], row["dataset"], row["split"], row["zero_shot"]) == ("toy", "ucm", "official", True)
    assert row["metrics"]["i2t_r5"] == 100.0, "three candidates"


def test_eval_of_several_runs_shows_mean_and_deviation(grid, capsys, data_root):
    runs = [str(grid / n) for n in hashes(grid)[:3]]
    assert main(["eval", *runs, "--root", str(data_root)]) == 0
    shown = capsys.readouterr().out
    assert "mean" in shown and "± (n-1)" in shown


def test_eval_warns_of_shared_pictures(monkeypatch, capsys, tmp_path):
    metrics = dict.fromkeys(
        ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10", "mr", "rsum", "i2t_medr", "t2i_medr"), 1.0
    )
    row = {"run": "x", "method": "srem:full", "trained_on": "rsitmd", "dataset": "rsicd", "metrics": metrics}
    monkeypatch.setattr("rsbench.experiment.evaluate.evaluate_run", lambda *args: row)
    assert main(["eval", str(tmp_path), "--dataset", "rsicd"]) == 0
    assert "rsitmd and rsicd share pictures" in capsys.readouterr().err
    row["dataset"] = "toy"
    assert main(["eval", str(tmp_path), "--dataset", "toy"]) == 0
    assert "share pictures" not in capsys.readouterr().err


def test_a_pretrained_backbone_is_scored_without_training(capsys, data_root, monkeypatch):
    other_dataset(data_root)
    small_clip = import_from(Path(__file__).parents[1] / "backbones" / "small_clip.py")
    small_clip.register()
    card = dataclasses.replace(OPENCLIP, params={"model": small_clip.NAME, "tag": ""})
    monkeypatch.setattr("rsbench.backbones.cards.openclip.OPENCLIP", card)
    words = ["eval", "--backbone", "openclip", "--weights", "random", "--dataset", "ucm", "--root", str(data_root)]
    assert main([*words, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert row["zero_shot"] and row["metrics"]["t2i_r5"] == 100.0
    assert main(["eval", "--backbone", "toy", "--dataset", "ucm", "--root", str(data_root)]) == 2
    assert "no joint space before training" in capsys.readouterr().err


def import_from(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_full_disk_ends_with_one_line_and_the_run_goes_on_later(tmp_path, data_root, capsys, monkeypatch):
    from rsbench.training import checkpoint

    words = ["run", "--dataset", "toy", "--method", "infonce", "--noise", "0.4", "--set", "recipe.epochs=3"]
    words += ["--root", str(data_root), "--jobs", "1", "--out", str(tmp_path)]
    original, written = checkpoint.save_file, []

    def full(*args: object, **kwargs: object) -> None:
        written.append(args)
        if len(written) > 3:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        original(*args, **kwargs)

    monkeypatch.setattr(checkpoint, "save_file", full)
    assert main(words) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1 and "no space left" in shown[0]
    folder = RunFolder(tmp_path, next(tmp_path.iterdir()).name)
    assert folder.state() == "partial", "nothing is recorded as failed, the last checkpoint is whole"
    monkeypatch.setattr(checkpoint, "save_file", original)
    assert main(words) == 0
    assert folder.state() == "done"
    assert "resumed after epoch 1" in folder.log_file.read_text()


def test_a_backbone_trained_from_pixels_goes_the_same_road(tmp_path, data_root):
    words = ["run", "--dataset", "toy", "--backbone", "tiny", "--method", "infonce", "--noise", "0", "--jobs", "1"]
    words += ["--set", "recipe.epochs=1", "--set", "recipe.lr=0.002", "--set", "recipe.warmup_steps=5"]
    assert main([*words, "--root", str(data_root), "--out", str(tmp_path)]) == 0
    result = RunFolder(tmp_path, hashes(tmp_path)[0]).read_result()
    assert result["spec"]["tuning"] == "full"
    assert result["test"]["best"]["mr"] > 3, "chance is about 0.9"
    assert main(["eval", str(tmp_path / hashes(tmp_path)[0]), "--root", str(data_root)]) == 0


MATRIX = """
dataset = "toy"
[set]
"recipe.epochs" = 2
"recipe.validate_every" = 2
[matrix]
method = ["infonce", "rcl", "recon"]
noise = [0, 0.4]
recipe = ["common", "paper"]
seeds = 2
[[exclude]]
method = ["rcl", "recon"]
recipe = "paper"
[[exclude]]
method = "recon"
[[include]]
method = "rcl"
noise = 0.4
seeds = 3
"""


@pytest.fixture
def matrix(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(MATRIX)
    return str(path)


def test_a_grid_file_plans_its_cells_and_says_what_is_impossible(grid, matrix, capsys, data_root):
    words = ["--grid", matrix, "--out", str(grid), "--root", str(data_root)]
    assert main(["plan", *words, "--json"]) == 0
    *runs, impossible = json.loads(capsys.readouterr().out)
    found = [(r["spec"]["method"], r["spec"]["noise"]["rate"], r["spec"]["seed"], r["state"]) for r in runs]
    by_hand = [(m, n, s, "done") for m in ("infonce", "rcl") for n in (0.0, 0.4) for s in (0, 1)]
    assert sorted(found) == sorted([*by_hand, ("rcl", 0.4, 2, "new")])
    assert all(r["seconds"] > 0 for r in runs), "runs of the same kind were done before"
    assert (impossible["state"], impossible["runs"]) == ("impossible", 4)
    assert "no published recipe" in impossible["reason"]
    set_by_all = {"recipe.epochs": "2", "recipe.validate_every": "2"}
    assert impossible["asked"] == {"dataset": "toy", "noise": "0,0.4", "method": "infonce", **set_by_all}

    assert main(["plan", *words, "--jobs", "2"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert any(line.startswith("infonce toy noise 0,0.4") and "no published recipe" in line for line in shown)
    assert shown[-1].startswith("13 runs: 8 done, 1 new, 4 impossible; 1 to do, about ")
    assert "with 2 at a time" in shown[-1]


def test_what_is_possible_runs_and_the_rest_makes_the_exit_code_one(matrix, capsys, data_root, tmp_path):
    words = ["run", "--grid", matrix, "--method", "infonce", "--noise", "0.4", "--seed-list", "5", "--jobs", "1"]
    words += ["--set", "recipe.epochs=1", "--out", str(tmp_path / "out"), "--root", str(data_root)]
    assert main(words) == 1
    shown = capsys.readouterr()
    assert "no published recipe" in shown.out and "[1/1] infonce toy noise 0.4 seed 5: test mR" in shown.out
    assert f"rsbench run --grid {matrix} --method infonce --noise 0.4 --seed-list 5" in shown.out
    assert len(hashes(tmp_path / "out")) == 1


def test_all_that_is_wrong_is_told_at_once_and_nothing_starts(capsys, data_root, tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text('dataset = "toy"\n[matrix]\nmethod = ["sremm", "rcl"]\nnoise = [0, 2]\n"set.method.tua" = [1, 2]\n')
    assert main(["run", "--grid", str(path), "--out", str(tmp_path / "out"), "--root", str(data_root)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    for says in ("did you mean srem", "--noise 2 is outside", "did you mean tau"):
        assert sum(says in line for line in lines) == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_result_is_told_and_the_rest_goes_on(capsys, data_root, tmp_path):
    words = ["--dataset", "toy", "--method", "infonce", "--noise", "0.4", "--seeds", "2", "--out", str(tmp_path)]
    words += ["--set", "recipe.epochs=1", "--root", str(data_root), "--jobs", "1"]
    assert main(["plan", *words, "--json"]) == 0
    torn, whole = (j["hash"] for j in json.loads(capsys.readouterr().out))
    (tmp_path / torn).mkdir()
    (tmp_path / torn / "result.json").write_text('{"schema": 1, "st')
    assert main(["run", *words]) == 1
    shown = capsys.readouterr().out
    assert "impossible" in shown and f"delete the folder {torn}" in shown
    assert RunFolder(tmp_path, whole).state() == "done"
    assert main(["run", *words, "--overwrite", "always"]) == 0
    assert RunFolder(tmp_path, torn).state() == "done"


def test_a_folder_that_cannot_be_written_ends_with_one_line_before_any_work(capsys, data_root, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path))

    monkeypatch.setattr("rsbench.cli.launching.tempfile.NamedTemporaryFile", refused)
    monkeypatch.setattr("rsbench.experiment.run.materials", None)
    words = ["run", "--dataset", "toy", "--method", "infonce", "--out", str(tmp_path), "--root", str(data_root)]
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "Read-only file system" in lines[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--launcher locl", "unknown launcher 'locl'; did you mean local"),
        ("--launch slot=2", "did you mean slots"),
        ("--launch slots=2 --jobs 3", "contradict each other"),
        ("--launch memory_mb=-1", "give 0 or more"),
    ],
)
def test_launchers_and_their_settings_are_checked_first(capsys, words, says):
    assert main(["run", "--method", "infonce", "--dataset", "nowhere", *words.split()]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and says in lines[0]
