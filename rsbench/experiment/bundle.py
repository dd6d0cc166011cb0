"""Results as one archive for an appendix: tables, configs, results, noise lists, versions. No torch."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import rsbench
from rsbench.data.lifecycle import open_dataset
from rsbench.errors import ResultError, RsbenchError
from rsbench.files import write_atomic
from rsbench.noise.formats import write_pairs
from rsbench.noise.index import NoiseSpec
from rsbench.noise.make import make_index
from rsbench.progress import Progress, silent
from rsbench.report.build import build_tables
from rsbench.report.formats import render
from rsbench.report.groups import by_table, method_label, noise_file
from rsbench.report.table import Table
from rsbench.results.frame import load_results, read_result, result_files
from rsbench.results.schema import Result

FORMATS = {"markdown": "md", "csv": "csv", "latex": "tex"}
RUN_FILES = ("spec.json", "result.json", "history.jsonl")
_MOMENT = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can hold: equal contents give equal bytes."""


@dataclass(frozen=True)
class NoiseFile:
    """A noise list of the bundle.

    Attributes:
        sha256: of the list, as the runs record it.
        facts: dataset, split and noise spec of a run that was trained on it.
        content: ``.npy`` of int64 ``[P, 2]`` (image, caption); None where it cannot be made here.
        reason: why not.
    """

    sha256: str
    facts: Mapping[str, Any]
    content: bytes | None
    reason: str = ""

    @property
    def path(self) -> str:
        """Name inside the archive."""
        return f"noise/{self.sha256[:16]}.npy"


@dataclass(frozen=True)
class Bundle:
    """What an archive holds.

    Attributes:
        files: path inside -> bytes.
        runs: finished runs.
        failed: runs left out because they failed.
        noise: noise lists, those that could not be made among them.
    """

    files: Mapping[str, bytes]
    runs: int
    failed: int
    noise: tuple[NoiseFile, ...]


def make_bundle(paths: Sequence[Path], root: Path, progress: Progress = silent) -> Bundle:
    """Collect what an appendix needs of the results below some folders.

    Args:
        paths: folders searched recursively; a run found twice counts once.
        root: data folder, from which the noise lists are made again.
        progress: called per noise list.

    Raises:
        ResultError: no finished run, or a damaged or newer file.
    """
    results = load_results(paths)
    done = [r for r in results if r.get("status") == "done"]
    if not done:
        raise ResultError(f"none of the {len(results)} runs is finished; run them again with: rsbench run")
    tables, noise = build_tables(results), _noise_files(done, root, progress)
    files = {f"tables/tables.{end}": render(tables, form).encode() for form, end in FORMATS.items()}
    files |= _run_files(paths, {str(r["hash"]) for r in done})
    files |= {n.path: n.content for n in noise if n.content is not None}
    files["versions.json"] = _json(_versions(done))
    files["README.md"] = _readme(tables, done, len(results) - len(done), noise).encode()
    sums = "".join(f"{hashlib.sha256(files[n]).hexdigest()}  {n}\n" for n in sorted(files))
    files["SHA256SUMS"] = sums.encode()
    return Bundle(files, len(done), len(results) - len(done), noise)


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write the archive: names sorted, times fixed, so that equal contents give equal bytes.

    Raises:
        OSError: it cannot be written.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(bundle.files):
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, bundle.files[name], compresslevel=9)
    write_atomic(path, buffer.getvalue())


def _run_files(paths: Sequence[Path], wanted: set[str]) -> dict[str, bytes]:
    """Spec, result and history of each wanted run, as they were written; the first finished copy of each."""
    found: dict[str, bytes] = {}
    for file in (f for path in paths for f in result_files(path)):
        result = read_result(file)
        name = str(result.get("hash") or file.parent.name)
        if name not in wanted or result.get("status") != "done":
            continue
        wanted = wanted - {name}
        for part in RUN_FILES:
            if (file.parent / part).is_file():
                found[f"runs/{name}/{part}"] = (file.parent / part).read_bytes()
    return found


def _noise_files(done: Sequence[Result], root: Path, progress: Progress) -> tuple[NoiseFile, ...]:
    """Each list that a run was shown once, by digest; rate 0 moves nothing and needs no file."""
    shown = {noise_file(r): r["spec"] for r in done if float(r["spec"]["noise"]["rate"]) > 0}
    found = []
    for at, (sha256, spec) in enumerate(sorted(shown.items()), 1):
        found.append(_noise_file(sha256, spec, root, progress))
        progress("noise lists", at, len(shown))
    return tuple(found)


def _noise_file(sha256: str, spec: Mapping[str, Any], root: Path, progress: Progress) -> NoiseFile:
    facts = {"dataset": spec["dataset"], "split": spec["split"], **spec["noise"]}
    try:
        dataset = open_dataset(spec["dataset"], root, progress)
        index = make_index(dataset, spec["split"], NoiseSpec(**spec["noise"]), root)
        if index.sha256 != sha256:
            return NoiseFile(sha256, facts, None, f"the data here give another list ({index.sha256[:16]})")
        with TemporaryDirectory() as folder:
            path = Path(folder, "pairs.npy")
            write_pairs(dataset, index, path, "pairs")
            return NoiseFile(sha256, facts, path.read_bytes())
    except (RsbenchError, TypeError) as error:  # TypeError: a noise spec with fields of a newer version
        return NoiseFile(sha256, facts, None, str(error))


def _versions(done: Sequence[Result]) -> list[dict[str, Any]]:
    """Each environment that runs were made in, with their number."""
    counts: dict[str, int] = {}
    for result in done:
        machine = {k: v for k, v in result.get("environment", {}).items() if k != "memory_peak_mb"}
        text = json.dumps(machine, sort_keys=True)
        counts[text] = counts.get(text, 0) + 1
    return [{"runs": n, **json.loads(text)} for text, n in sorted(counts.items())]


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()


def _readme(tables: Sequence[Table], done: Sequence[Result], failed: int, noise: Sequence[NoiseFile]) -> str:
    methods = sorted({method_label(r["spec"]) for r in done})
    data = sorted({f"{k.dataset} (fingerprint {k.fingerprint[:12]}, split {k.split})" for k in by_table(done)})
    searches = sum(not r["spec"].get("held_out", True) for r in done)
    lines = [
        "# Results",
        "",
        f"{len(done)} finished runs of {', '.join(methods)} on {', '.join(data)}; written by rsbench "
        f"{rsbench.__version__}.",
        *([f"Searches on validation among them, without test figures: {searches}."] if searches else []),
        *([f"Failed runs that were left out: {failed}."] if failed else []),
        "",
        "- `tables/`: every table as Markdown, CSV (full precision) and LaTeX (booktabs), with its notes",
        "- `runs/HASH/spec.json`: the whole configuration of a run; HASH is made of it",
        "- `runs/HASH/result.json`: figures, realised noise, times, versions, warnings",
        "- `runs/HASH/history.jsonl`: one line per epoch",
        "- `noise/*.npy`: training pairs as shown, int64 [P, 2] (image, caption), named by the sha256 of the pairs as",
        "  little-endian int64, row by row; use one with `rsbench noise DATASET --import FILE --name NAME`",
        "- `versions.json`: machines and versions of packages",
        "- `SHA256SUMS`: check with `sha256sum -c SHA256SUMS`",
        "",
        "Images, captions and weights are not included.",
        "",
        "## Tables",
        "",
        *(f"- {table.title} ({len(table.rows)} rows)" for table in tables),
        "",
        "## Noise lists",
        "",
        *([_noise_line(n) for n in noise] or ["None: no run was made under injected noise."]),
        "",
    ]
    return "\n".join(lines)


def _noise_line(noise: NoiseFile) -> str:
    f = noise.facts
    what = f"{f['dataset']}, split {f['split']}: {f['kind']} per {f['unit']}, rate {f['rate']:g}, {f['source']}"
    what += f", seed {f['seed']}" if f["source"] == "generated" else ""
    where = f"`{noise.path}`" if noise.content is not None else f"NOT INCLUDED, {' '.join(noise.reason.split())}"
    return f"- {what}; sha256 {noise.sha256}: {where}"
