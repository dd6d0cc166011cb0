"""Results from one machine to another: everything arrives, nothing is written over, nothing foreign gets in."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_runs import done, failed, failure_of, json_of, put, result_of, spec_of, tree

from rsbench.errors import ArchiveError, ResultError
from rsbench.experiment.receive import import_runs
from rsbench.experiment.ship import export
from rsbench.experiment.spec import spec_hash
from rsbench.results.heartbeat import Heart
from rsbench.results.store import RunFolder

HERE = st.dictionaries(
    st.integers(0, 5),
    st.tuples(st.sampled_from(["done", "failed", "partial", "new", "damaged"]), st.sampled_from([20.0, 21.5])),
    max_size=6,
)


def lay(out: Path, runs: dict[int, tuple[str, float]]) -> None:
    out.mkdir(exist_ok=True)
    for seed, (state, mr) in runs.items():
        spec = spec_of(seed)
        if state == "done":
            put(out, spec, result_of(spec, mr), weights__safetensors=bytes([seed]) * 9)
        elif state == "failed":
            put(out, spec, failure_of(spec), checkpoint__safetensors=b"c")
        elif state == "partial":
            put(out, spec, checkpoint__safetensors=b"c")
        elif state == "damaged":
            (put(out, spec) / "result.json").write_text('{"schema"')
        else:
            (out / spec.hash).mkdir()


def merged_by_hand(here: str | None, there: str) -> str:
    """Which side a run is taken from: ``here``, or ``there``."""
    if there == "done":
        return "here" if here == "done" else "there"
    return "there" if here in (None, "new") else "here"


@settings(max_examples=25, deadline=None)
@given(HERE, HERE, st.booleans())
def test_any_two_grids_merge_by_the_rule(mine, theirs, weights):
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        lay(tmp / "mine", mine)
        lay(tmp / "theirs", theirs)
        before = tree(tmp / "mine")
        shipped = {s: state for s, (state, _) in theirs.items() if state in ("done", "failed")}
        if not shipped:
            with pytest.raises(ResultError, match="no finished or failed run"):
                export([tmp / "theirs"], tmp / "a.tar", weights)
            assert not (tmp / "a.tar").exists()
            return
        export([tmp / "theirs"], tmp / "a.tar", weights)
        merged = import_runs([tmp / "a.tar"], tmp / "mine")
        after = tree(tmp / "mine")
        for seed in range(6):
            own = spec_of(seed).hash
            mine_then = {k: v for k, v in before.items() if k.startswith(own)}
            mine_now = {k: v for k, v in after.items() if k.startswith(own)}
            if seed not in shipped or merged_by_hand(mine.get(seed, (None,))[0], shipped[seed]) == "here":
                assert mine_now == mine_then
                continue
            for part in ("result.json", "spec.json", "history.jsonl", "log.txt"):
                assert mine_now[f"{own}/{part}"] == (tmp / "theirs" / own / part).read_bytes()
            assert (f"{own}/weights.safetensors" in mine_now) == (weights and shipped[seed] == "done")
            assert own in merged.taken
            assert f"{own}/checkpoint.safetensors" not in mine_now
        clashes = {s for s in mine.keys() & theirs if mine[s][0] == theirs[s][0] == "done" and mine[s] != theirs[s]}
        assert {place.name for place, _ in merged.clashes} == {spec_of(s).hash for s in clashes}
        again = import_runs([tmp / "a.tar"], tmp / "mine")
        assert again.taken == []
        assert tree(tmp / "mine") == after


@pytest.fixture
def archive(tmp_path):
    for seed in range(3):
        done(tmp_path / "theirs", seed, 20.0 + seed)
    failed(tmp_path / "theirs", 3)
    export([tmp_path / "theirs"], tmp_path / "grid.tar")
    return tmp_path / "grid.tar"


def test_equal_runs_give_equal_bytes_and_plain_tar_reads_them(archive, tmp_path):
    export([tmp_path / "theirs"], tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()
    with tarfile.open(archive) as tar:
        assert {m.mtime for m in tar} == {0}
        manifest = json.load(tar.extractfile("manifest.json"))
        for name, sums in manifest["runs"].items():
            for member, digest in sums.items():
                content = tar.extractfile(f"runs/{name}/{member}").read()
                assert hashlib.sha256(content).hexdigest() == digest
    assert not [n for n in sums if "checkpoint" in n]


def test_pairs_and_weights_on_request(tmp_path):
    run = done(tmp_path / "theirs", 0, weights__safetensors=b"w")
    (run / "pairs").mkdir()
    (run / "pairs" / "epoch-000.safetensors").write_bytes(b"p")
    export([tmp_path / "theirs"], tmp_path / "a.tar", weights=True, pairs=True)
    import_runs([tmp_path / "a.tar"], tmp_path / "mine")
    assert tree(tmp_path / "mine") == tree(tmp_path / "theirs")


def test_a_run_in_a_folder_below_stays_there(archive, tmp_path):
    failed(tmp_path / "mine" / "toy", 0)
    import_runs([archive], tmp_path / "mine")
    assert json.loads((tmp_path / "mine" / "toy" / spec_of(0).hash / "result.json").read_text())["status"] == "done"
    assert not (tmp_path / "mine" / spec_of(0).hash).exists()
    assert (tmp_path / "mine" / spec_of(1).hash).exists()


def test_several_archives_and_a_clash_between_them(archive, tmp_path):
    done(tmp_path / "other", 0, 55.0)
    done(tmp_path / "other", 7, 55.0)
    export([tmp_path / "other"], tmp_path / "other.tar")
    merged = import_runs([archive, tmp_path / "other.tar"], tmp_path / "mine")
    assert len(merged.taken) == 5
    assert merged.clashes == [(tmp_path / "mine" / spec_of(0).hash, "other.tar")]
    kept = json.loads((tmp_path / "mine" / spec_of(0).hash / "result.json").read_text())
    assert kept["test"]["best"]["mr"] == 20.0


def test_runs_that_are_worked_on_are_left_alone(archive, tmp_path):
    run = put(tmp_path / "mine", spec_of(0), checkpoint__safetensors=b"c")
    remote = put(tmp_path / "mine", spec_of(1), checkpoint__safetensors=b"c")
    with Heart(remote, 4, "cpu"):
        plain = json.loads((remote / "running.json").read_text())
    (remote / "running.json").write_text(json.dumps(plain | {"host": "node7"}))
    with RunFolder(run.parent, run.name).claimed():
        merged = import_runs([archive], tmp_path / "mine")
    assert sorted(merged.taken) == sorted([spec_of(2).hash, spec_of(3).hash])
    assert len(merged.busy) == 2
    assert (run / "checkpoint.safetensors").exists()
    assert (remote / "checkpoint.safetensors").exists()


def test_export_takes_the_finished_copy_and_refuses_two_that_differ(tmp_path):
    failed(tmp_path / "a", 0)
    done(tmp_path / "b", 0, 30.0)
    put(tmp_path / "b", spec_of(1), checkpoint__safetensors=b"c")
    (put(tmp_path / "b", spec_of(2)) / "result.json").write_text("{")
    taken = export([tmp_path / "a", tmp_path / "b"], tmp_path / "x.tar")
    assert taken.runs == {spec_of(0).hash: tmp_path / "b" / spec_of(0).hash}
    assert taken.left[spec_of(1).hash] == "not finished"
    assert "is damaged" in taken.left[spec_of(2).hash]
    done(tmp_path / "c", 0, 31.0)
    with pytest.raises(ResultError, match="is there twice with other numbers"):
        export([tmp_path / "b", tmp_path / "c"], tmp_path / "y.tar")
    assert not list(tmp_path.glob("*y.tar*"))


def repacked(archive: Path, change) -> None:
    """Write an archive anew with its members changed: name -> (bytes, or where a link points)."""
    with tarfile.open(archive) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}
    change(members)
    with tarfile.open(archive, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)


def run_of(seed: int) -> str:
    return f"runs/{spec_of(seed).hash}"


def with_manifest(members, change) -> None:
    manifest = json.loads(members["manifest.json"])
    change(manifest)
    members["manifest.json"] = json.dumps(manifest).encode()


def rewrite(members, name, content: bytes) -> None:
    """Change a member together with its checksum."""
    members[name] = content
    _, run, file = name.split("/", 2)
    with_manifest(members, lambda m: m["runs"][run].update({file: hashlib.sha256(content).hexdigest()}))


def other_spec(members) -> None:
    result = result_of(spec_of(8), hash=spec_of(0).hash)
    rewrite(members, f"{run_of(0)}/spec.json", json.dumps(json_of(spec_of(8))).encode())
    rewrite(members, f"{run_of(0)}/result.json", json.dumps(result).encode())


def renamed_manifest(name):
    return lambda members: with_manifest(members, lambda m: m["runs"].update({name: m["runs"][spec_of(0).hash]}))


def result_with(**changes):
    content = json.dumps(result_of(spec_of(0), **changes)).encode()
    return lambda members: rewrite(members, f"{run_of(0)}/result.json", content)


SPOILED = {
    "a member is changed": (lambda m: m.update({f"{run_of(1)}/log.txt": b"x"}), "differs from its checksum"),
    "a member is missing": (lambda m: m.pop(f"{run_of(1)}/log.txt"), "is not both in its manifest"),
    "a member too many": (lambda m: m.update({f"{run_of(1)}/evil.py": b"x"}), "is not both in its manifest"),
    "no manifest": (lambda m: m.pop("manifest.json"), "was not made by rsbench export"),
    "no JSON": (lambda m: m.update({"manifest.json": b"{"}), "that rsbench export did not write"),
    "another format": (lambda m: with_manifest(m, lambda x: x.update(format="zip")), "did not write"),
    "a newer format": (lambda m: with_manifest(m, lambda x: x.update(version=2)), "this version reads up to 1"),
    "runs are a list": (lambda m: with_manifest(m, lambda x: x.update(runs=[])), "did not write"),
    "a run with another name": (renamed_manifest("../../evil"), "did not write"),
    "climbs out": (lambda m: m.update({"../evil": b"x"}), "climbs out"),
    "absolute": (lambda m: m.update({"/evil": b"x"}), "absolute path"),
    "a link": (lambda m: m.update({f"{run_of(1)}/link": "/etc/passwd"}), "holds a link"),
    "another spec": (other_spec, "does not fit its spec.json"),
    "a newer schema": (result_with(schema=99), "has schema 99"),
    "an unknown status": (result_with(status="running"), "neither done nor failed"),
    "another hash": (result_with(hash="0" * 16), "does not fit its spec.json"),
    "a result of another run": (
        lambda m: rewrite(m, f"{run_of(0)}/result.json", json.dumps(result_of(spec_of(1))).encode()),
        "does not fit its spec.json",
    ),
}


@pytest.mark.parametrize("how", SPOILED)
def test_what_is_refused_changes_nothing(archive, tmp_path, how):
    change, says = SPOILED[how]
    repacked(archive, change)
    done(tmp_path / "mine", 5)
    done(tmp_path / "good", 6)
    export([tmp_path / "good"], tmp_path / "good.tar")
    before = tree(tmp_path / "mine")
    with pytest.raises((ArchiveError, ResultError), match=says) as caught:
        import_runs([tmp_path / "good.tar", archive], tmp_path / "mine")
    assert "\n" not in str(caught.value)
    assert tree(tmp_path / "mine") == before
    assert [p.name for p in (tmp_path / "mine").iterdir()] == [spec_of(5).hash]


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0, 1.0, exclude_max=True))
def test_a_cut_off_archive_changes_nothing(share):
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        done(tmp / "theirs", 0)
        export([tmp / "theirs"], tmp / "a.tar")
        whole = (tmp / "a.tar").read_bytes()
        end = whole.rstrip(b"\0")
        (tmp / "a.tar").write_bytes(whole[: int(share * len(end))])
        with pytest.raises(ArchiveError):
            import_runs([tmp / "a.tar"], tmp / "mine")
        assert not (tmp / "mine").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x1f\x8b\x08"])
def test_no_tar_at_all(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ArchiveError):
        import_runs([tmp_path / "a.tar"], tmp_path / "mine")
    with pytest.raises(ArchiveError, match="there is no file"):
        import_runs([tmp_path / "none.tar"], tmp_path / "mine")


def test_a_newer_result_here_is_kept(archive, tmp_path):
    spec = spec_of(0)
    run = put(tmp_path / "mine", spec, result_of(spec, schema=99))
    before = tree(run)
    assert spec.hash in import_runs([archive], tmp_path / "mine").kept
    assert tree(run) == before


def test_the_hash_of_a_stored_spec_is_that_of_the_run():
    for seed in range(3):
        assert (
            spec_hash(json_of(spec_of(seed, params={"tau": 0.1 + seed, "x": None})))
            == spec_of(seed, params={"tau": 0.1 + seed, "x": None}).hash
        )


def test_a_killed_import_leaves_no_run_half_there(archive, tmp_path, monkeypatch):
    """Killed before each of its moves in turn: a run here is whole, or not there for any reader."""
    moves = []

    def dying(source, target, real=shutil.move):
        if len(moves) == at:
            raise KeyboardInterrupt
        moves.append(target)
        real(source, target)

    at = 0
    while True:
        moves.clear()
        out = tmp_path / f"mine{at}"
        with monkeypatch.context() as patch:
            patch.setattr("rsbench.results.store.os.replace", dying)
            try:
                import_runs([archive], out)
                break
            except KeyboardInterrupt:
                at += 1
        for run in out.glob("*"):
            if (run / "result.json").exists():
                assert tree(run) == {
                    k: v for k, v in tree(tmp_path / "theirs" / run.name).items() if k != "checkpoint.safetensors"
                }
        import_runs([archive], out)
        assert len(list(out.glob("*/result.json"))) == 4
    assert at == 16, "4 runs of 4 files"
