from __future__ import annotations

import json

import pytest

from rsbench.errors import ResultError
from rsbench.results.frame import load_results

SPEC = {
    "dataset": "toy", "split": "s", "backbone": "toy", "tuning": "heads", "weights": "shipped", "method": "srem",
    "variant": "full", "seed": 0, "recipe": {"name": "common"},
    "noise": {"kind": "shuffle", "unit": "caption", "rate": 0.4, "source": "generated", "seed": 42},
}  # fmt: skip


NOISE = SPEC["noise"]


def put(folder, text=None, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    result = {"schema": 1, "hash": folder.name, "status": "done", "spec": SPEC, "test": {"best": {"mr": 1.0}}} | changes
    (folder / "result.json").write_text(json.dumps(result) if text is None else text)


def test_results_are_found_at_any_depth_and_keep_unknown_keys(tmp_path):
    put(tmp_path / "a" / "one", from_the_future="kept")
    put(tmp_path / "b" / "deeper" / "two", status="failed", error="out of luck")
    put(tmp_path / "b" / ".trash" / "three")
    found = load_results([tmp_path])
    assert [(r["hash"], r["status"]) for r in found] == [("one", "done"), ("two", "failed")]
    assert found[0]["from_the_future"] == "kept"


def test_a_single_file_is_a_path_too(tmp_path):
    put(tmp_path / "one")
    assert len(load_results([tmp_path / "one" / "result.json", tmp_path])) == 1


def test_a_result_without_a_hash_is_named_by_its_folder(tmp_path):
    put(tmp_path / "run", hash=None)
    assert [r["hash"] for r in load_results([tmp_path])] == ["run"]


def test_the_same_run_is_kept_once_and_finished_before_failed(tmp_path):
    put(tmp_path / "a" / "run", status="failed")
    put(tmp_path / "b" / "run")
    put(tmp_path / "c" / "run")
    (found,) = load_results([tmp_path])
    assert found["status"] == "done"
    assert not found.get("warnings")


def test_a_copy_with_other_numbers_is_told(tmp_path):
    put(tmp_path / "a" / "run")
    put(tmp_path / "b" / "run", test={"best": {"mr": 2.0}})
    (found,) = load_results([tmp_path])
    assert found["test"]["best"]["mr"] == 1.0
    assert "stored twice with other numbers" in found["warnings"][0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("", "is damaged"),
        ("\udcff", "is damaged"),
        ("[1]", "is not a result of rsbench"),
        ('{"accuracy": 1}', "is not a result of rsbench"),
        (json.dumps({"schema": "1", "spec": SPEC}), "is not a result of rsbench"),
        (json.dumps({"schema": 99, "spec": SPEC}), "schema 99, this version reads up to 1; upgrade"),
        (json.dumps({"schema": 1, "spec": {"dataset": "toy"}}), "a spec without 'split'"),
        (json.dumps({"schema": 1, "spec": SPEC | {"noise": {"kind": "none"}}}), "a spec without 'noise.unit'"),
        (json.dumps({"schema": 1, "spec": SPEC | {"noise": 0.4}}), "a spec without 'noise.kind'"),
        (json.dumps({"schema": 1, "spec": SPEC | {"seed": None}}), "a spec whose seed None is no whole number"),
        (
            json.dumps({"schema": 1, "spec": SPEC | {"noise": SPEC["noise"] | {"rate": "0.4"}}}),
            "noise rate '0.4' is no",
        ),
        (
            json.dumps({"schema": 1, "spec": SPEC | {"noise": SPEC["noise"] | {"rate": 40}}}),
            "noise rate 40 is no share",
        ),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, text, message):
    put(tmp_path / "run", "")
    (tmp_path / "run" / "result.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ResultError, match=message) as error:
        load_results([tmp_path])
    assert "result.json" in str(error.value)


def test_nothing_there(tmp_path):
    with pytest.raises(ResultError, match=r"no result\.json below"):
        load_results([tmp_path])
    with pytest.raises(ResultError, match="there is no folder"):
        load_results([tmp_path / "absent"])
