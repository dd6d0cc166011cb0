"""Results as a tar of plain files with checksums, for another machine (``receive`` takes them in). No torch."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rsbench import __version__
from rsbench.errors import ResultError
from rsbench.experiment.bundle import RUN_FILES
from rsbench.experiment.spec import spec_hash
from rsbench.files import temporary
from rsbench.progress import Progress, silent
from rsbench.results.folders import run_folders
from rsbench.results.frame import figures, read_result
from rsbench.results.ranks import RANKS
from rsbench.results.schema import Result
from rsbench.results.store import RunFolder, read_json

MANIFEST = "manifest.json"
FORMAT, FORMAT_VERSION = "rsbench-results", 1
ALWAYS = (*RUN_FILES, "log.txt", RANKS)
WEIGHTS = "weights.safetensors"


@dataclass
class Shipped:
    """What an export took.

    Attributes:
        runs: folders of the runs, finished and failed.
        left: folders left out, each with the reason.
    """

    runs: dict[str, Path] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def export(
    paths: Sequence[Path], output: Path, weights: bool = False, pairs: bool = False, progress: Progress = silent
) -> Shipped:
    """Write finished and failed runs as a tar; equal runs give equal bytes.

    Args:
        paths: results folders, searched recursively; a finished copy of a run goes before a failed one.
        output: the archive; whole or absent.
        weights: with the best weights.
        pairs: with the per-pair records.
        progress: called per run.

    Raises:
        ResultError: nothing to export, or two finished copies of a run with other numbers.
        OSError: it cannot be written.
    """
    taken = _chosen(paths)
    if not taken.runs:
        raise ResultError(
            f"no finished or failed run below {', '.join(map(str, paths))}; see them with: rsbench status"
        )
    files = {name: _files_of(taken.runs[name], weights, pairs) for name in sorted(taken.runs)}
    sums = {name: {member: _digest(taken.runs[name] / member) for member in members} for name, members in files.items()}
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, "rsbench": __version__, "runs": sums}
    tmp = temporary(output)
    try:
        with tmp.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
            for at, (name, members) in enumerate(files.items(), 1):
                for member in members:
                    _add(archive, f"runs/{name}/{member}", (taken.runs[name] / member).read_bytes())
                progress("export", at, len(files))
            archive.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(tmp, output)
    finally:
        tmp.unlink(missing_ok=True)
    return taken


def _chosen(paths: Sequence[Path]) -> Shipped:
    """Each run once: ended, whole, and not being worked on."""
    taken, results = Shipped(), dict[str, Result]()
    for folder in (f for path in paths for f in run_folders(path)):
        run = RunFolder(folder.parent, folder.name)
        try:
            result = checked(folder) if run.result.exists() else None
        except ResultError as error:
            taken.left[folder.name] = str(error)
            continue
        if result is None or (result["status"] != "done" and run.held() is True):
            taken.left.setdefault(folder.name, "not finished")
            continue
        before = results.get(folder.name)
        if before is not None and before["status"] == result["status"] == "done" and figures(before) != figures(result):
            raise ResultError(
                f"run {folder.name} is there twice with other numbers: {taken.runs[folder.name]}, {folder}"
            )
        if before is None or (before["status"] != "done" and result["status"] == "done"):
            results[folder.name], taken.runs[folder.name] = result, folder
    taken.left = {name: why for name, why in taken.left.items() if name not in taken.runs}
    return taken


def _files_of(folder: Path, weights: bool, pairs: bool) -> list[str]:
    wanted = [*ALWAYS, *([WEIGHTS] if weights else [])]
    found = [name for name in wanted if (folder / name).is_file()]
    records = sorted(p.relative_to(folder).as_posix() for p in (folder / "pairs").glob("epoch-*.safetensors"))
    return sorted([*found, *(records if pairs else [])])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)  # owner, mode and time are fixed
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def checked(folder: Path) -> Result:
    """The result of a run folder whose spec, hash and schema agree.

    Raises:
        ResultError: they do not, or a file is damaged or of a newer version.
    """
    result = read_result(folder / "result.json")
    spec = read_json(folder / "spec.json")
    if result["spec"] != spec or spec_hash(spec) != folder.name or result["hash"] != folder.name:
        raise ResultError(f"run {folder.name} does not fit its spec.json: the hash of the spec is {spec_hash(spec)}")
    if result.get("status") not in ("done", "failed"):
        raise ResultError(f"run {folder.name} has status {result.get('status')!r}, which is neither done nor failed")
    return result
