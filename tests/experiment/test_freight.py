"""What travels to machines without a shared disk arrives byte for byte, or is refused."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsbench.errors import ArchiveError, BusyError, ResultError
from rsbench.experiment.launch.freight import cargo_of, pack, pack_run, stow, take_in, unpack
from rsbench.experiment.request import Request
from rsbench.experiment.resolve import resolve
from rsbench.experiment.run import Options, execute, materials
from rsbench.results.store import RunFolder, write_json

NAMES = st.text("abcXYZ019._- é", min_size=1, max_size=60).filter(lambda n: n.strip(". ") != "" and n != ".end")
FILES = st.dictionaries(st.tuples(st.sampled_from(["", "a/", "a/b/"]), NAMES).map("".join), st.binary(max_size=3000))


def written(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def apart(content: dict[str, bytes]) -> bool:
    """No file is also a folder of another one."""
    folders = {"a", "a/b"}
    return not folders & set(content)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=FILES.filter(apart), chunk=st.integers(50, 20_000), cut=st.floats(0, 0.999))
def test_files_arrive_whole_and_a_cut_archive_is_refused(content, chunk, cut, tmp_path_factory):
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    chunks: list[bytes] = []
    pack(written(here, content), sorted(content), chunks.append, chunk)
    assert all(len(c) == chunk for c in chunks[:-1])
    unpack(chunks, there, "cargo")
    assert everything(there) == content

    data = b"".join(chunks)
    end = data.rindex(b".end")  # behind the last header a tar is padding alone
    with pytest.raises(ArchiveError):
        unpack([data[: int(cut * end)]], tmp_path_factory.mktemp("cut"), "cargo")


def evil(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("/tmp/x", tarfile.REGTYPE),
        ("../x", tarfile.REGTYPE),
        ("a/../../x", tarfile.REGTYPE),
        ("x", tarfile.SYMTYPE),
        ("x", tarfile.LNKTYPE),
        ("x", tarfile.FIFOTYPE),
    ],
)
def test_members_that_reach_outside_are_refused(name, kind, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(ArchiveError, match="refused"):
        unpack([evil(name, kind)], inside, "cargo")
    assert everything(tmp_path) == {}


@pytest.fixture
def spec(data_root):
    request = Request(methods=("infonce",), datasets=("toy",), rates=(0.4,), settings={"recipe.epochs": ("1",)})
    found = resolve(request, data_root)[0]
    materials(found, data_root)
    return found


def test_the_cargo_is_what_a_run_reads_and_nothing_else(spec, data_root, tmp_path):
    stray = written(data_root / "features" / "stray", {"entry.json": b'{"key": {"backbone": "toy", "content": "x"}}'})
    (data_root / "downloads").mkdir(exist_ok=True)
    (data_root / "downloads" / "big").write_bytes(b"x")
    cargo = cargo_of([spec], data_root)
    assert not any("stray" in name or "downloads" in name or name.endswith(".lock") for name in cargo.files)
    (stray / "entry.json").unlink()
    chunks: list[bytes] = []
    pack(cargo.root, cargo.files, chunks.append)
    place = stow(chunks, tmp_path / "node" / cargo.digest)
    before = everything(place)
    result = execute(spec, Options(place, tmp_path / "out", "cpu"))
    assert result["status"] == "done"
    assert {k: v for k, v in everything(place).items() if not k.endswith(".lock")} == before, "no feature was missing"
    assert stow(iter(()), place) == place, "a second worker of the node fetches nothing"


def done(name: str, mark: str, status: str = "done") -> dict[str, object]:
    return {"schema": 1, "hash": name, "status": status, "mark": mark}


def test_a_result_comes_in_whole_and_never_over_a_finished_one(tmp_path):
    away, here = RunFolder(tmp_path / "away", "abc"), RunFolder(tmp_path / "here", "abc")
    left_behind = {"checkpoint.safetensors": b"c", ".lock": b"", ".x.1.tmp": b"", "pairs/.2.3.tmp/2": b""}
    written(away.path, {"log.txt": b"log", "pairs/1": b"p", **left_behind})
    write_json(away.result, done("abc", "first"))
    written(here.path, {"checkpoint.safetensors": b"old"})
    assert take_in(pack_run(away), here)
    assert set(everything(here.path)) - {".lock"} == {"log.txt", "pairs/1", "result.json"}

    write_json(away.result, done("abc", "second"))
    assert not take_in(pack_run(away), here)
    assert json.loads(here.result.read_text())["mark"] == "first"


def test_foreign_busy_and_cut_results_are_refused(tmp_path):
    away, here = RunFolder(tmp_path / "away", "abc"), RunFolder(tmp_path / "here", "abc")
    away.path.mkdir(parents=True)
    write_json(away.result, done("other", "x"))
    with pytest.raises(ResultError, match="result of run other"):
        take_in(pack_run(away), here)
    write_json(away.result, done("abc", "x"))
    with here.claimed(), pytest.raises(BusyError):
        take_in(pack_run(away), here)
    with pytest.raises(ArchiveError, match="cut off"):
        take_in([pack_run(away)[0][:600]], here)
    assert not here.result.exists()
    assert not [p for p in here.path.iterdir() if p.name != ".lock"], "nothing half is left"
