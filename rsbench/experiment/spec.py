"""RunSpec: what ONE run is. Its canonical JSON hashes to the run's folder name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rsbench.noise.index import NoiseSpec
from rsbench.training.recipe import Recipe

SPEC_VERSION = 1

ADDED: dict[str, dict[str, Any]] = {
    "recipe": {
        "warmup_share": 0.0,
        "beta2": 0.999,
        "backbone_lr_scale": 1.0,
        "freeze": 0,
        "grad_checkpoint": False,
        "ema": 0.0,
        "crop": 1.0,
        "flip": False,
        "chunk_size": 0,
    },
    "noise": {"scorer": "", "threshold": None, "quantile": None},
}
"""Fields younger than the first results: left out at these values, so that older runs keep their hash."""


@dataclass(frozen=True)
class RunSpec:
    """One fully resolved run.

    Attributes:
        dataset: name; its ``fingerprint`` is the content.
        split: scheme of train, val and test.
        noise: kind, unit, rate, source, seed; ``noise_sha256`` is the content.
        backbone: name; with ``tuning``, ``weights`` and ``backbone_params``.
        method: registered name, or ``file.py:Class`` of the user's own.
        variant: named variant, ``full`` for the method as published.
        params: every hyper-parameter, resolved.
        seed: run seed (initialisation, loader, dropout).
        precision: ``fp32``, ``bf16`` or ``fp16``.
        held_out: score the test part at the end; False for searches on validation.
        revisions: revision of method, backbone and dataset (raised when numbers change), and the
            sha256 of the file of a method that is not built in.
    """

    dataset: str
    split: str
    noise: NoiseSpec
    backbone: str
    tuning: str
    weights: str
    method: str
    variant: str
    recipe: Recipe
    seed: int
    params: Mapping[str, Any] = field(default_factory=dict)
    backbone_params: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    held_out: bool = True
    fingerprint: str = ""
    noise_sha256: str = ""
    revisions: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; every field but those of ``ADDED`` at their first value."""
        found = {"version": SPEC_VERSION, **dataclasses.asdict(self)}
        for part, fields in ADDED.items():
            found[part] = {k: v for k, v in found[part].items() if k not in fields or v != fields[k]}
        return found

    @property
    def hash(self) -> str:
        """Name of the run's folder, see ``spec_hash``."""
        return spec_hash(self.as_dict())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunSpec:
        """Rebuild a spec from ``as_dict`` or from ``spec.json``."""
        fields = {f.name: data[f.name] for f in dataclasses.fields(cls) if f.name in data}
        recipe = dict(data["recipe"])
        recipe["decay_epochs"] = tuple(recipe.get("decay_epochs", ()))
        fields["noise"], fields["recipe"] = NoiseSpec(**data["noise"]), Recipe(**recipe)
        return cls(**fields)


def spec_hash(spec: Mapping[str, Any]) -> str:
    """First 16 hex digits of the sha256 of a spec as canonical JSON: sorted keys, no spaces.

    Args:
        spec: of ``RunSpec.as_dict``, or as stored; no field of it needs to be known to this version.
    """
    canonical = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
