"""Run folders as a run leaves them, without running one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rsbench.experiment.spec import RunSpec
from rsbench.noise.index import NoiseSpec
from rsbench.training.recipe import Recipe

RECALLS = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")


def spec_of(seed: int = 0, **changes: Any) -> RunSpec:
    base = RunSpec(
        dataset="toy", split="official", noise=NoiseSpec("shuffle", "caption", 0.4, "generated", 42), backbone="toy",
        tuning="heads", weights="bundled", method="infonce", variant="full", recipe=Recipe(epochs=4), seed=seed,
        params={"tau": 0.05}, fingerprint="f" * 64, noise_sha256="4" * 64,
        revisions={"method": 1, "backbone": 1, "dataset": 1},
    )  # fmt: skip
    return replace(base, **changes)


def result_of(spec: RunSpec, mr: float = 20.0, **changes: Any) -> dict[str, Any]:
    best = {**{k: mr + i for i, k in enumerate(RECALLS)}, "mr": mr, "rsum": 6 * mr, "i2t_medr": 3.0, "t2i_medr": 4.0}
    part = {"best": best, "last": best}
    result = {
        "schema": 1, "hash": spec.hash, "status": "done", "spec": spec.as_dict(),
        "method": {"networks": 1, "uses_prior": "", "detector": "similarity"},
        "dataset": {"parts": {"train": 100, "val": 20, "test": 30}, "missing": 0},
        "noise": {"pairs": 500, "sha256": spec.noise_sha256, "moved": 0.4, "foreign": 0.4, "mismatched": 0.396},
        "best_epoch": 3, "epochs": 4, "val": part, "test": part, "detection": {}, "warnings": [],
        "time": {"train": 8.0, "evaluate": 2.0, "total": 10.0}, "environment": {"rsbench": "0.1.0"},
    }  # fmt: skip
    return json.loads(json.dumps(result | changes))


def failure_of(spec: RunSpec, error: str = "loss is NaN") -> dict[str, Any]:
    return {"schema": 1, "hash": spec.hash, "status": "failed", "error": error, "spec": json_of(spec)}


def json_of(spec: RunSpec) -> dict[str, Any]:
    return json.loads(json.dumps(spec.as_dict()))


def put(out: Path, spec: RunSpec, result: dict[str, Any] | None = None, **files: bytes) -> Path:
    """A run folder; ``files`` by name with ``__`` for the dot, such as ``checkpoint__safetensors``."""
    run = out / spec.hash
    run.mkdir(parents=True, exist_ok=True)
    (run / "spec.json").write_text(json.dumps(json_of(spec)))
    (run / "log.txt").write_text("epoch 1\nepoch 2\nepoch 3\n")
    if result is not None:
        (run / "result.json").write_text(json.dumps(result))
        (run / "history.jsonl").write_text('{"epoch": 0}\n')
    for name, content in files.items():
        (run / name.replace("__", ".")).write_bytes(content)
    return run


def done(out: Path, seed: int = 0, mr: float = 20.0, **files: bytes) -> Path:
    spec = spec_of(seed)
    return put(out, spec, result_of(spec, mr), **files)


def failed(out: Path, seed: int = 0, error: str = "loss is NaN") -> Path:
    spec = spec_of(seed)
    return put(out, spec, failure_of(spec, error), checkpoint__safetensors=b"resume me")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but locks."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }
