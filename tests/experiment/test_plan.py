"""Specs, their hashes, and the state of jobs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from rsbench.data.lifecycle import open_dataset
from rsbench.errors import BusyError, CapabilityError, ResultError, RsbenchError, UnknownNameError, UsageError
from rsbench.experiment.plan import make_plan
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve, split_variant, tuned_table
from rsbench.experiment.spec import ADDED, RunSpec
from rsbench.methods.build import load_card, resolve_params
from rsbench.noise.formats import write_pairs
from rsbench.noise.imported import import_index, store_index
from rsbench.noise.index import NoiseSpec
from rsbench.noise.make import make_index
from rsbench.results.store import RunFolder, read_json, write_json


@pytest.fixture
def spec(data_root: Path) -> RunSpec:
    return resolve(Request(methods=("infonce",), datasets=("toy",), rates=(0.4,)), data_root)[0]


def test_a_spec_survives_json(spec: RunSpec) -> None:
    again = RunSpec.from_dict(json.loads(json.dumps(spec.as_dict())))
    assert again.hash == spec.hash
    assert again.recipe == spec.recipe


def test_every_field_of_a_spec_moves_the_hash(spec: RunSpec) -> None:
    changed = {
        "dataset": "x", "split": "x", "backbone": "x", "tuning": "x", "weights": "x", "method": "x", "variant": "x",
        "seed": 9, "params": {"tau": 9.0}, "backbone_params": {"dim": 9}, "precision": "bf16", "held_out": False,
        "fingerprint": "x", "noise_sha256": "x", "revisions": {"method": 9},
        "noise": dataclasses.replace(spec.noise, seed=9), "recipe": dataclasses.replace(spec.recipe, lr=9.0),
    }  # fmt: skip
    assert set(changed) == {f.name for f in dataclasses.fields(spec)}
    hashes = {dataclasses.replace(spec, **{k: v}).hash for k, v in changed.items()}
    assert len(hashes | {spec.hash}) == len(changed) + 1


def test_fields_that_came_later_leave_older_hashes_alone(spec: RunSpec) -> None:
    """A spec as written before these fields existed reads back to the same hash; other values move it."""
    old = json.loads(json.dumps(spec.as_dict()))
    assert not {f for part, fields in ADDED.items() for f in fields if f in old[part]}
    assert RunSpec.from_dict(old).hash == spec.hash
    changes = [("recipe", "warmup_share", 0.1), ("recipe", "beta2", 0.98)]
    changes += [("noise", "scorer", "run:x"), ("noise", "threshold", 0.2), ("noise", "quantile", 0.5)]
    for part, name, value in changes:
        changed = dataclasses.replace(spec, **{part: dataclasses.replace(getattr(spec, part), **{name: value})})
        assert changed.hash != spec.hash
        assert RunSpec.from_dict(changed.as_dict()) == changed


def test_committed_results_lie_under_the_hash_of_their_spec() -> None:
    folders = [p.parent for p in (Path(__file__).parents[2] / "results").glob("*/*/spec.json")]
    assert folders
    assert [RunSpec.from_dict(read_json(f / "spec.json")).hash for f in folders] == [f.name for f in folders]


def test_chosen_settings_are_among_those_that_were_searched() -> None:
    rows = tuned_table()
    assert len({(r["dataset"], r["backbone"], r["tuning"], r["method"]) for r in rows}) == len(rows)
    for row in rows:
        card = load_card(row["method"])
        assert row["params"] in [dict(setting) for setting in card.searched], row["method"]
        assert row["tried"] == len(card.searched) == 6
        resolve_params(card, "full", row["params"])


def test_defaults_of_the_command_in_the_readme(spec: RunSpec) -> None:
    assert (spec.dataset, spec.backbone, spec.tuning, spec.recipe.name) == ("toy", "toy", "heads", "common")
    assert (spec.noise.kind, spec.noise.unit, spec.noise.source, spec.noise.seed) == (
        "shuffle",
        "caption",
        "generated",
        42,
    )


def test_noise_is_the_same_for_all_methods_and_seeds_unless_asked(data_root: Path) -> None:
    request = Request(methods=("infonce", "rcl"), datasets=("toy",), rates=(0.4,), seeds=(0, 1))
    assert len({s.noise_sha256 for s in resolve(request, data_root)}) == 1
    varied = dataclasses.replace(request, noise_seed="per-run")
    assert len({s.noise_sha256 for s in resolve(varied, data_root)}) == 2


def test_grid_order_and_size(data_root: Path) -> None:
    request = Request(
        methods=("infonce", "srem:u"), datasets=("toy",), rates=(0.0, 0.4), seeds=(0, 1),
        settings={"recipe.epochs": ("1", "2")},
    )  # fmt: skip
    specs = resolve(request, data_root)
    assert len(specs) == len({s.hash for s in specs}) == 2 * 2 * 2 * 2
    assert specs[0].noise.kind == "none"
    assert split_variant("a/b.py:Mine") == ("a/b.py:Mine", "full")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"methods": ("sremm",)}, UnknownNameError, "did you mean srem"),
        ({"methods": ("srem:w",)}, UnknownNameError, "variant of srem"),
        ({"datasets": ("toi",)}, UnknownNameError, "did you mean toy"),
        ({"backbone": "liet"}, UnknownNameError, "did you mean lite"),
        ({"tuning": "lora"}, UnknownNameError, "tuning of backbone"),
        ({"split": "mine"}, UsageError, "has no split 'mine'"),
        ({"source": "official"}, RsbenchError, "official"),
        ({"recipe": "mine"}, UsageError, "use common or paper"),
        ({"recipe": "paper"}, CapabilityError, "no published recipe"),
        ({"precision": "int8"}, UsageError, "--precision"),
        ({"noise_seed": "x"}, UsageError, "neither a whole number"),
        ({"noise_seed": "-3"}, UsageError, "is negative"),
        ({"kind": "shufle"}, UnknownNameError, "did you mean shuffle"),
        ({"kind": "none"}, UsageError, "contradict"),
        ({"unit": "pixel"}, RsbenchError, "unit"),
        ({"settings": {"method.tua": ("1",)}}, UnknownNameError, "did you mean tau"),
        ({"settings": {"method.tau": ("x",)}}, UsageError, "a finite number"),
        ({"settings": {"recipe.lrr": ("1",)}}, UnknownNameError, "did you mean lr"),
        ({"settings": {"recipe.epochs": ("two",)}}, UsageError, "recipe.epochs='two' must be a whole number"),
        ({"settings": {"recipe.epochs": ("0",)}}, UsageError, "epochs"),
        ({"settings": {"recipe.optimizer": ("sgd",)}}, UsageError, "optimizer"),
        ({"settings": {"backbone.dims": ("1",)}}, UnknownNameError, "did you mean dim"),
    ],
)
def test_bad_requests_end_before_any_work(data_root: Path, change: dict, error: type, says: str) -> None:
    request = dataclasses.replace(Request(methods=("infonce",), datasets=("toy",), rates=(0.4,)), **change)
    with pytest.raises(error, match=says):
        resolve(request, data_root)


def test_a_method_that_needs_more_than_the_backbone_gives(data_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "needy.py"
    file.write_text(
        "import dataclasses\n"
        "from rsbench.methods.base import Method\n"
        "from rsbench.methods.card import MethodCard\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class P: pass\n"
        "class Needy(Method):\n"
        "    card = MethodCard('needy', 't', 'p', 'x:y', P, (), needs=frozenset({'blocks'}))\n"
    )
    with pytest.raises(CapabilityError, match="needs blocks"):
        resolve(Request(methods=(str(file),), datasets=("toy",)), data_root)


def test_states_of_a_job(spec: RunSpec, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, spec.hash)
    assert [j.state for j in make_plan([spec], tmp_path)] == ["new"]
    folder.path.mkdir()
    folder.checkpoint.write_bytes(b"x")
    assert make_plan([spec], tmp_path)[0].state == "partial"
    write_json(folder.result, {"schema": 1, "status": "failed"})
    plan = {word: make_plan([spec], tmp_path, word)[0] for word in ("never", "missing", "always")}
    assert [plan[w].todo for w in plan] == [False, True, True]
    assert plan["always"].restart
    write_json(folder.result, {"schema": 1, "status": "done"})
    assert not make_plan([spec], tmp_path)[0].todo
    with pytest.raises(UsageError, match="--overwrite"):
        make_plan([spec], tmp_path, "yes")


@pytest.mark.parametrize(
    ("text", "says"),
    [('{"schema": 99, "status": "done"}', "schema 99"), ("{", "cannot be read"), ("[]", "no JSON object")],
)
def test_a_damaged_result_makes_its_own_run_impossible(spec: RunSpec, tmp_path: Path, text: str, says: str) -> None:
    folder, other = RunFolder(tmp_path, spec.hash), dataclasses.replace(spec, seed=7)
    folder.path.mkdir()
    folder.result.write_text(text)
    damaged, whole = make_plan([spec, other], tmp_path)
    assert (damaged.state, damaged.todo) == ("impossible", False)
    assert says in damaged.reason
    assert (whole.state, whole.todo) == ("new", True)
    anew = make_plan([spec], tmp_path, "always")[0]
    assert anew.todo and anew.restart


def test_a_folder_of_another_spec_is_left_alone(spec: RunSpec, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, spec.hash)
    folder.path.mkdir()
    folder.open(spec.as_dict())
    with pytest.raises(ResultError, match="another version"):
        folder.open({**spec.as_dict(), "seed": 77})


def test_a_run_is_claimed_by_one_process(spec: RunSpec, tmp_path: Path) -> None:
    a, b = RunFolder(tmp_path, spec.hash), RunFolder(tmp_path, spec.hash)
    with a.claimed(), pytest.raises(BusyError, match="another process"), b.claimed():
        pass
    with b.claimed():
        assert (tmp_path / spec.hash / ".lock").exists()


def test_an_imported_list_tells_its_own_rate(data_root: Path, tmp_path: Path) -> None:
    dataset = open_dataset("toy", data_root)
    made = make_index(dataset, "official", NoiseSpec(rate=0.3, unit="image", seed=7))
    path = tmp_path / "theirs.npy"
    write_pairs(dataset, made, path, "per-image")
    store_index(data_root, "theirs", import_index(dataset, "official", path, name="theirs"))

    request = Request(methods=("infonce",), datasets=("toy",), source="file:theirs")
    spec = resolve(request, data_root)[0]
    assert (spec.noise.kind, spec.noise.unit, spec.noise.source) == ("shuffle", "image", "file:theirs")
    assert spec.noise.rate == pytest.approx(0.3, abs=0.01)
    assert spec.noise_sha256 == made.sha256
    with pytest.raises(UsageError, match="leave --noise out"):
        resolve(dataclasses.replace(request, rates=(0.2,)), data_root)
    with pytest.raises(UnknownNameError, match="did you mean theirs"):
        resolve(dataclasses.replace(request, source="file:their"), data_root)
