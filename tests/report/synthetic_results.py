"""Small synthetic results, written as a run writes them."""

from __future__ import annotations

import json
from dataclasses import replace

from rsbench.experiment.spec import RunSpec
from rsbench.noise.index import NoiseSpec
from rsbench.training.recipe import Recipe

RECALLS = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")


def spec_of(method="srem", rate=0.4, seed=0, **changes):
    clean = rate == 0
    noise = NoiseSpec("none" if clean else "shuffle", "caption", rate, "generated" if clean else "official", 42)
    base = RunSpec(
        dataset="rsicd", split="rrsitr", noise=noise, backbone="lite", tuning="heads", weights="hub", method=method,
        variant="full", recipe=Recipe(), seed=seed, params={"tau": 0.05}, fingerprint="f" * 64,
        noise_sha256=f"{int(rate * 10)}" * 64, revisions={"method": 1, "dataset": 1},
    )  # fmt: skip
    return replace(base, **changes)


def figures(mr):
    recalls = {k: mr + d for k, d in zip(RECALLS, (-5, 0, 5, -5, 0, 5), strict=True)}
    return {**recalls, "mr": mr, "rsum": 6 * mr, "i2t_medr": 3.0, "t2i_medr": 4.0}


def result_of(spec, mr=20.0, **changes):
    part = {"best": figures(mr), "last": figures(mr - 1)}
    result = {
        "schema": 1, "hash": spec.hash, "status": "done", "spec": spec.as_dict(),
        "method": {"networks": 1, "uses_prior": "", "detector": "native"},
        "dataset": {"parts": {"train": 100, "val": 20, "test": 30}, "missing": 0},
        "noise": {"pairs": 500, "sha256": spec.noise_sha256, "moved": 0.4, "foreign": 0.4, "mismatched": 0.396},
        "best_epoch": 3, "epochs": 5, "val": part, "test": part,
        "detection": {"best": {"auroc": 0.9, "detector": "native"}, "last": {"auroc": 0.8}},
        "warnings": [], "environment": {"rsbench": "0.1.0"},
    }  # fmt: skip
    if spec.noise.rate == 0:
        result["detection"] = {}
    if not spec.held_out:
        del result["test"]
    return json.loads(json.dumps(result | changes))


def write(folder, *results):
    for result in results:
        run = folder / result["hash"]
        run.mkdir(parents=True, exist_ok=True)
        (run / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder
