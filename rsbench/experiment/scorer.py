"""Scorers of noise kind ``pmp``: a pretrained pair of towers, or a finished run of ours. Torch only to score."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsbench.data.dataset import Dataset
from rsbench.errors import NoiseError, UnknownNameError, UsageError, WeightsError
from rsbench.experiment.spec import RunSpec
from rsbench.noise.index import NoiseSpec
from rsbench.noise.make import check_spec
from rsbench.noise.pseudo_match_store import is_drawn, make_list, manifest_path
from rsbench.progress import Progress, silent
from rsbench.results.store import read_json

if TYPE_CHECKING:
    from rsbench.methods.base import Method
    from rsbench.training.pair_scorer import PairScorer

GEORSCLIP = "georsclip"
"""The scorer of the paper: CLIP ViT-B/32 tuned on remote-sensing pairs."""

_GEORSCLIP_BACKBONE = "georsclip-vit-b32"
_FORMS = (GEORSCLIP, f"{GEORSCLIP}:FILE", "openclip:MODEL/TAG", "run:PATH")
_LOCAL_WAYS = f"give a local file with --scorer {GEORSCLIP}:FILE, or a finished run with --scorer run:results/HASH"
_DIGEST = re.compile(r"[0-9a-f]{16}")


def scorer_address(typed: str | None) -> str:
    """The name of a scorer by content, the same wherever its files lie: ``run:HASH``, ``georsclip:SHA256``.

    Args:
        typed: one of ``georsclip``, ``georsclip:FILE``, ``openclip:MODEL/TAG``, ``run:PATH``; None for the first.
            A run or file that is gone may be named by its digest: lists made with it are still found.

    Raises:
        UnknownNameError: another form.
        UsageError: no run folder, or no file.
    """
    typed = typed or GEORSCLIP
    kind, _, rest = typed.partition(":")
    path = Path(rest)
    if typed == GEORSCLIP or (kind == "openclip" and re.fullmatch(r"[^/]+/[^/]+", rest)):
        return typed
    if kind == "run" and rest:
        if (path / "spec.json").is_file():
            return "run:" + RunSpec.from_dict(read_json(path / "spec.json")).hash
        if _DIGEST.fullmatch(path.name):
            return "run:" + path.name
        raise UsageError(f"--scorer '{typed}': no run folder (it has no spec.json); give --scorer run:results/HASH")
    if kind == GEORSCLIP and rest:
        if path.is_file():
            return f"{GEORSCLIP}:{_file_digest(path)}"
        if _DIGEST.fullmatch(rest):
            return typed
        raise UsageError(f"--scorer '{typed}': no such file; {_LOCAL_WAYS}")
    raise UnknownNameError("scorer", typed, _FORMS, "pass one with --scorer")


def ensure_list(
    dataset: Dataset, split: str, spec: NoiseSpec, typed: str | None, root: Path, progress: Progress = silent
) -> None:
    """Make the list of a spec of kind ``pmp`` where this data root has none; other kinds need nothing.

    Args:
        dataset: the dataset.
        split: its split scheme.
        spec: the noise; its ``scorer`` is the address of ``typed``.
        typed: the scorer as typed.
        root: data root.
        progress: called while pairs are encoded and scored.

    Raises:
        NoiseError: no list can be made with this scorer and threshold.
        RsbenchError: the scorer cannot be had.
    """
    if not is_drawn(spec):
        return
    check_spec(spec)
    if not manifest_path(dataset, split, spec, root).is_file():
        scorer = _scorer(typed or GEORSCLIP, split, dataset.fingerprint, _Beside(dataset, root, progress))
        make_list(dataset, split, spec, scorer.score, root, scorer.facts, scorer.warnings)


@dataclass(frozen=True)
class _Beside:
    """What the fingerprint says already, or what changes no score: hidden from the key of the cache below."""

    dataset: Dataset = field(compare=False)
    root: Path = field(compare=False)
    progress: Progress = field(compare=False)


@dataclass(frozen=True)
class _Scorer:
    score: PairScorer
    facts: dict[str, Any]
    warnings: list[str]


@functools.lru_cache(maxsize=1)
def _scorer(typed: str, split: str, fingerprint: str, beside: _Beside) -> _Scorer:
    """Opened once, so that its embeddings serve all rates, units and seeds of a grid."""
    from rsbench.training.pair_scorer import PairScorer

    del fingerprint
    method, facts, warnings = _of_run(typed) if typed.startswith("run:") else _pretrained(typed)
    precision, tokens = facts.get("precision", "fp32"), facts.pop("tokens", False)
    inputs = method.backbone.inputs(beside.dataset, beside.root / "features", tokens, beside.progress)
    score = PairScorer(method, beside.dataset, split, inputs, precision, beside.progress)
    return _Scorer(score, facts, warnings)


def _of_run(typed: str) -> tuple[Method, dict[str, Any], list[str]]:
    from rsbench.experiment.evaluate import trained_method

    path = Path(typed.removeprefix("run:"))
    if not (path / "spec.json").is_file():
        raise NoiseError(f"no list was made with '{typed}' yet and no such run folder is here; give --scorer run:PATH")
    spec, method = trained_method(path)
    facts = {"method": f"{spec.method}:{spec.variant}", "dataset": spec.dataset, "noise": spec.noise.rate}
    warnings = []
    if spec.noise.rate > 0 or spec.noise.kind == "real":
        warnings.append(
            f"the scorer, run {spec.hash}, was itself trained on noisy pairs ({spec.noise.kind} {spec.noise.rate:g})"
        )
    tokens = bool(method.card.needs_of(spec.params))
    return method, facts | {"precision": spec.precision, "tokens": tokens}, warnings


def _pretrained(typed: str) -> tuple[Method, dict[str, Any], list[str]]:
    from rsbench.backbones.build import build_backbone
    from rsbench.methods.base import Method, Setup

    kind, _, rest = typed.partition(":")
    try:
        if kind == GEORSCLIP:
            backbone = build_backbone(_GEORSCLIP_BACKBONE, "full", rest or "hub", {}, seed=0)
        else:
            model, tag = rest.split("/")
            backbone = build_backbone("openclip", "full", "hub", {"model": model, "tag": tag}, seed=0)
    except WeightsError as error:
        raise WeightsError(f"scorer '{typed}': {str(error).partition(';')[0]}; {_LOCAL_WAYS}") from error
    return Method(backbone, None, Setup(0, 0, 0, 0)), backbone.facts(), []


@functools.cache
def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
