from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from rsbench.data.archive import open_source
from rsbench.errors import ArchiveError, DataError


@pytest.mark.parametrize("form", ["images", "tar", "zip", "gz"])
def test_every_form_yields_the_same_bytes_by_name(raw, form: str) -> None:
    path = raw.tar("raw.tar.gz", "x/y/") if form == "gz" else getattr(raw, form)()
    with open_source(path) as source:
        for name, content in raw.files.items():
            assert source.read(source.find(name)) == content
        assert source.find("port_99.png") is None
        assert source.find("other/port_3.png") is not None


def _tar_with(path: Path, **fields: object) -> Path:
    info = tarfile.TarInfo("ok.png")
    for key, value in fields.items():
        setattr(info, key, value)
    with tarfile.open(path, "w") as archive:
        archive.addfile(info, io.BytesIO(b""))
    return path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "../out.png"}, "climbs out"),
        ({"name": "a/../../out.png"}, "climbs out"),
        ({"name": "/etc/out.png"}, "absolute"),
        ({"name": "C:\\out.png"}, "absolute"),
        ({"name": "a\\..\\..\\out.png"}, "climbs out"),
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "holds a link"),
        ({"type": tarfile.LNKTYPE, "linkname": "ok.png"}, "holds a link"),
        ({"type": tarfile.FIFOTYPE}, "device or pipe"),
    ],
)
def test_hostile_tar_members_are_refused(tmp_path: Path, fields: dict, message: str) -> None:
    path = _tar_with(tmp_path / "bad.tar", **fields)
    with pytest.raises(ArchiveError, match=message), open_source(path):
        pass


@pytest.mark.parametrize(("member", "message"), [("../x.png", "climbs out"), ("/x.png", "absolute")])
def test_hostile_zip_members_are_refused(tmp_path: Path, member: str, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), b"")
    with pytest.raises(ArchiveError, match=message), open_source(tmp_path / "bad.zip"):
        pass


def test_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("x.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="holds a link"), open_source(tmp_path / "bad.zip"):
        pass


@pytest.mark.parametrize("form", ["tar", "zip", "gz"])
def test_truncated_archives_say_so(raw, form: str) -> None:
    path = raw.tar("raw.tar.gz") if form == "gz" else getattr(raw, form)()
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 5])
    with pytest.raises(ArchiveError, match="truncated"), open_source(path):
        pass


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("hello")
    with pytest.raises(DataError, match="neither a folder nor"), open_source(tmp_path / "x.zip"):
        pass
    with pytest.raises(DataError, match="does not exist"), open_source(tmp_path / "y.zip"):
        pass


def test_one_name_in_two_folders_is_ambiguous_unless_the_path_tells(raw) -> None:
    raw.images("a")
    with open_source(raw.images("b")) as source:
        with pytest.raises(DataError, match="more than once"):
            source.find("port_1.png")
        assert source.find("b/port_1.png") == "b/port_1.png"
