"""What is deleted, and above all what is not."""

from __future__ import annotations

import json
import os
import time

import pytest
from stored_runs import done, failed, put, spec_of, tree

from rsbench.errors import ResultError
from rsbench.experiment.tidy import feature_leftovers, leftovers, remove
from rsbench.results.heartbeat import Heart
from rsbench.results.plans import Planned, remember_plan
from rsbench.results.store import RunFolder


def names(items, out):
    return sorted(i.path.relative_to(out).as_posix() for i in items)


def grid(out):
    run = done(out, 0, checkpoint__safetensors=b"c" * 100, weights__safetensors=b"w" * 10, running__json=b"{}")
    (run / ".lock").touch()
    (run / "pairs").mkdir()
    (run / "pairs" / ".epoch-000.safetensors.77.8.tmp").write_bytes(b"half")
    (run / ".weights.safetensors.77.8.tmp").mkdir()
    (run / ".weights.safetensors.77.8.tmp" / ".tmpa1B2c3").write_bytes(b"half")
    (run / "pairs" / "epoch-000.safetensors").write_bytes(b"whole")
    failed(out, 1)
    put(out, spec_of(2), checkpoint__safetensors=b"c")
    (out / "0123456789abcdef").mkdir()
    (out / "0123456789abcdef" / ".lock").touch()
    return run


def test_what_goes_and_what_stays(tmp_path):
    run = grid(tmp_path)
    before = tree(tmp_path)
    found = leftovers(tmp_path)
    gone = {"checkpoint.safetensors", "running.json", "pairs/.epoch-000.safetensors.77.8.tmp"}
    half = f"{run.name}/.weights.safetensors.77.8.tmp"
    assert names(found, tmp_path) == sorted(
        ["0123456789abcdef", f"{run.name}/.lock", half, *(f"{run.name}/{name}" for name in gone)]
    )
    assert tree(tmp_path) == before, "looking deletes nothing"
    deleted, kept = remove(found)
    assert (len(deleted), kept) == (6, [])
    gone.add(".weights.safetensors.77.8.tmp/.tmpa1B2c3")
    assert tree(tmp_path) == {k: v for k, v in before.items() if k not in {f"{run.name}/{name}" for name in gone}}
    assert not (tmp_path / "0123456789abcdef").exists()
    assert not (run / ".lock").exists()
    assert leftovers(tmp_path) == []


def test_weights_on_request(tmp_path):
    run = grid(tmp_path)
    remove(leftovers(tmp_path, weights=True))
    assert not (run / "weights.safetensors").exists()
    assert (tmp_path / spec_of(1).hash / "checkpoint.safetensors").exists(), "a failed run goes on from it"


def test_a_run_that_is_worked_on_is_never_touched(tmp_path):
    run = grid(tmp_path)
    found = leftovers(tmp_path, weights=True)
    before = tree(run)
    with RunFolder(tmp_path, run.name).claimed():
        assert not [i for i in leftovers(tmp_path, weights=True) if run in (i.path, *i.path.parents)]
        deleted, kept = remove(found)
        assert tree(run) == before, "it began after we looked"
    assert [i.path.name for i in deleted] == ["0123456789abcdef"]
    assert len(kept) == 1
    assert "being worked on" in kept[0]


def test_what_is_no_leftover_any_more_stays(tmp_path):
    (tmp_path / "0123456789abcdef").mkdir()
    (tmp_path / "0123456789abcdef" / ".lock").touch()
    found = leftovers(tmp_path)
    (tmp_path / "0123456789abcdef" / "spec.json").write_text("{}")
    assert remove(found) == ([], [])
    assert (tmp_path / "0123456789abcdef" / "spec.json").exists()


@pytest.mark.parametrize(("age", "touched"), [(300.0, False), (9999.0, True)])
def test_a_silent_run_on_another_machine_is_given_an_hour(tmp_path, age, touched):
    run = put(tmp_path, spec_of(0))
    with Heart(run, 4, "cpu") as heart:
        heart.beat(1, 4, 0, 10)
        plain = json.loads((run / "running.json").read_text())
    (run / "running.json").write_text(json.dumps(plain | {"host": "node7"}))
    os.utime(run / "running.json", (time.time() - age,) * 2)
    assert bool(leftovers(tmp_path)) is touched


def test_a_damaged_run_keeps_everything(tmp_path):
    run = grid(tmp_path)
    (run / "result.json").write_text("{")
    assert not [i for i in leftovers(tmp_path, weights=True) if i.path.name in ("checkpoint.safetensors", "weights")]


def test_a_plan_goes_when_its_runs_are_done_and_its_driver_is_gone(tmp_path):
    done(tmp_path, 0)
    file = remember_plan(tmp_path, [Planned(spec_of(0).hash, "x")])
    other = remember_plan(tmp_path, [Planned(spec_of(9).hash, "x")], detached=True)
    assert leftovers(tmp_path) == [], "this process drives it"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pid": None}))
    deleted, _ = remove(leftovers(tmp_path))
    assert [i.path for i in deleted] == [file]
    assert other.exists()


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(ResultError, match="there is no folder"):
        leftovers(tmp_path / "none")


def entry(root, name, **key):
    folder = root / "features" / name
    folder.mkdir(parents=True)
    (folder / "entry.json").write_text(json.dumps({"key": {"what": "text features", **key}, "rows": 1, "files": {}}))
    (folder / "pooled.npy").write_bytes(b"x" * 1000)
    return folder


def test_features_that_no_run_can_use(tmp_path, data_root):
    from rsbench.data.lifecycle import open_dataset

    root = tmp_path / "root"
    root.mkdir()
    images = open_dataset("toy", data_root).images_hash
    (root / "datasets").symlink_to(data_root / "datasets")
    used = entry(root, "a" * 24, backbone="toy", revision=1, content=images)
    other = entry(root, "b" * 24, backbone="somebody's", revision=7, content=images)
    entry(root, "c" * 24, backbone="toy", revision=0, content=images)
    entry(root, "d" * 24, backbone="toy", revision=1, content="0" * 64)
    entry(root, "e" * 24 + ".part", backbone="toy", revision=1, content=images)
    (root / "features" / "notes").mkdir()
    found = feature_leftovers(root)
    assert {i.path.name[0]: i.why for i in found} == {
        "c": "text features of an older revision of toy",
        "d": "text features of a dataset that is not prepared here",
        "e": "features half computed",
    }
    assert all(i.bytes > 1000 for i in found)
    assert remove(found)[1] == []
    left = {p.name for p in (root / "features").iterdir() if p.is_dir()}
    assert left == {used.name, other.name, "notes"}
    assert feature_leftovers(tmp_path / "none") == []
