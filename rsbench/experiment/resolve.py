"""From a request to fully resolved specs: every default filled in, every name checked. No torch."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from rsbench.backbones.card import BackboneCard
from rsbench.backbones.resolve import resolve_backbone
from rsbench.casting import cast_like
from rsbench.data.card import DatasetCard
from rsbench.data.dataset import Dataset
from rsbench.data.lifecycle import last_prepared, open_dataset
from rsbench.errors import CapabilityError, RsbenchError, UnknownNameError, UsageError
from rsbench.experiment.request import Request
from rsbench.experiment.scorer import ensure_list, scorer_address
from rsbench.experiment.spec import RunSpec
from rsbench.methods.build import card_digest, check_needs, load_card, resolve_params
from rsbench.methods.card import MethodCard
from rsbench.noise.imported import FILE
from rsbench.noise.index import REAL, NoiseIndex, NoiseSpec
from rsbench.noise.make import make_index, resolve_source
from rsbench.noise.pseudo_match import PMP, check_pmp
from rsbench.progress import Progress, silent
from rsbench.registry import DATASETS, NOISE_KINDS
from rsbench.training.recipe import COMMON, COMMON_FULL, Recipe

PRECISIONS = ("auto", "fp32", "bf16", "fp16")

Opened = Callable[[str, Path, Progress], Dataset]
"""``open_dataset``, or one that remembers."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Runs of a request that cannot be, and why.

    Attributes:
        asked: what they have in common, such as dataset, noise rate and method.
        error: a ``UsageError`` is a mistake in the words; any other means that the words are right and something is
            missing or does not go together.
        runs: how many they are.
    """

    asked: Mapping[str, str]
    error: RsbenchError
    runs: int = 1

    @property
    def label(self) -> str:
        """What was asked for, in a few words."""
        found = dict(self.asked)
        words = [found.pop(k, "") for k in ("method", "dataset")]
        return " ".join(w for w in (*words, *(f"{k} {v}" for k, v in found.items())) if w) or "all runs"


def resolve(request: Request, root: Path, progress: Progress = silent) -> list[RunSpec]:
    """Expand a request into specs, in the order dataset, rate, method, settings, seed.

    Raises:
        RsbenchError: a name, field, value or combination that cannot run; before any work starts.
    """
    specs: dict[str, RunSpec] = {}
    for cell in _cells(request, root, open_dataset, progress):
        if isinstance(cell, Problem):
            raise cell.error
        specs[cell.hash] = cell
    return list(specs.values())


def resolve_all(
    requests: Iterable[Request], root: Path, progress: Progress = silent
) -> tuple[list[RunSpec], list[Problem]]:
    """Expand requests into specs, each once, and everything that is wrong with the rest.

    Args:
        requests: parts of a grid.
        root: data root.
        progress: called while data or noise lists are made.
    """
    opened: Opened = functools.cache(open_dataset)
    cells = [cell for request in requests for cell in _cells(request, root, opened, progress)]
    specs = {cell.hash: cell for cell in cells if isinstance(cell, RunSpec)}
    return list(specs.values()), _merged([cell for cell in cells if isinstance(cell, Problem)])


def _merged(problems: list[Problem]) -> list[Problem]:
    """Problems of the same reason as one, with what all their runs have in common."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(str(problem.error), []).append(problem)
    return [
        Problem(dict(_common([p.asked for p in group])), group[0].error, sum(p.runs for p in group))
        for group in groups.values()
    ]


def _common(asked: list[Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    for key in asked[0]:
        values = list(dict.fromkeys(a.get(key, "") for a in asked))
        if "" not in values and (len(values) == 1 or key != "seed"):
            yield key, ",".join(values)


def _cells(request: Request, root: Path, opened: Opened, progress: Progress) -> Iterator[RunSpec | Problem]:
    """Every run of a request, or what is wrong with it."""
    for name in request.datasets or (last_prepared(root) or "toy",):
        settings = list(request.combinations())
        grid = list(itertools.product(request.rates, request.methods, settings, request.seeds))
        try:
            _check_words(request)
            card, dataset, split = _open(request, name, root, opened, progress)
        except RsbenchError as error:
            yield Problem({"dataset": name}, error, len(grid))
            continue
        for rate, method, chosen, seed in grid:
            try:
                yield _resolve_one(request, root, card, dataset, split, rate, method, chosen, seed, progress)
            except RsbenchError as error:
                asked = {"dataset": name, "noise": f"{rate:g}", "method": method, **chosen, "seed": str(seed)}
                yield Problem(asked, error)


def _check_words(request: Request) -> None:
    if request.precision not in PRECISIONS:
        raise UsageError(f"--precision '{request.precision}' is unknown; use one of {', '.join(PRECISIONS)}")
    if request.recipe not in ("common", "paper"):
        raise UsageError(f"--recipe '{request.recipe}' is unknown; use common or paper")
    NOISE_KINDS.entry(request.kind)


def _open(
    request: Request, name: str, root: Path, opened: Opened, progress: Progress
) -> tuple[DatasetCard, Dataset, str]:
    card: DatasetCard = DATASETS.load(name)
    dataset = opened(name, root, progress)
    split = request.split or card.default_split
    for part in ("train", "val"):
        dataset.part(split, part)
    return card, dataset, split


def _resolve_one(
    request: Request,
    root: Path,
    card: DatasetCard,
    dataset: Dataset,
    split: str,
    rate: float,
    method: str,
    settings: Mapping[str, str],
    seed: int,
    progress: Progress,
) -> RunSpec:
    name, variant = split_variant(method)
    method_card = load_card(name)
    backbone_name = request.backbone or card.backbone
    own_tuning = card.tuning if backbone_name == card.backbone else ""
    backbone, tuning, weights, backbone_params = resolve_backbone(
        backbone_name, request.tuning or own_tuning, request.weights or "", _scope(settings, "backbone")
    )
    tuned = _tuned(request, card.name, backbone_name, tuning, name)
    fixed = method_card.variants.get(variant, {})
    asked = {**{k: v for k, v in tuned.items() if k not in fixed}, **_scope(settings, "method")}
    params = resolve_params(method_card, variant, asked)
    check_needs(method_card, params, backbone_name, tuning, backbone.capabilities[tuning])
    _check_classes(method_card, params, dataset)
    recipe = _recipe(request, method_card, tuning, _scope(settings, "recipe"))
    index = noise_index(dataset, split, _noise_spec(request, card, split, rate, seed), root, request.scorer, progress)
    if rate not in (0.0, index.spec.rate):
        raise UsageError(
            f"--noise {rate:g}: the list '{index.spec.source}' has rate {index.spec.rate:g}; leave --noise out"
        )
    return RunSpec(
        dataset=card.name,
        split=split,
        noise=index.spec,
        backbone=backbone_name,
        tuning=tuning,
        weights=weights,
        method=name,
        variant=variant,
        recipe=recipe,
        seed=seed,
        params=params,
        backbone_params=backbone.spelled(backbone_params),
        precision="fp32" if request.precision == "auto" else request.precision,
        held_out=request.held_out,
        fingerprint=dataset.fingerprint,
        noise_sha256=index.sha256,
        revisions=_revisions(name, method_card, backbone, card, weights),
    )


def _check_classes(card: MethodCard, params: Mapping[str, Any], dataset: Dataset) -> None:
    """Parameters may have a property ``wants_classes``."""
    if getattr(card.params(**params), "wants_classes", False) and not dataset.classes:
        raise CapabilityError(
            f"method '{card.name}' needs scene classes, which dataset '{dataset.name}' does not have; "
            f"a variant may do without (`rsbench describe {card.name}`)"
        )


def split_variant(method: str) -> tuple[str, str]:
    """``srem:u+w`` is method and variant; ``file.py:Class`` is a user's own method."""
    if ".py" in method:
        return method, "full"
    name, _, variant = method.partition(":")
    return name, variant or "full"


def _scope(settings: Mapping[str, str], scope: str) -> dict[str, str]:
    return {k.partition(".")[2]: v for k, v in settings.items() if k.startswith(scope + ".")}


def _noise_spec(request: Request, card: DatasetCard, split: str, rate: float, seed: int) -> NoiseSpec:
    check_pmp(_pmp(request, NoiseSpec(request.kind)))
    if request.source is not None and request.source.startswith(FILE):
        if request.scorer:
            raise UsageError(f"--scorer cannot go with --noise-source {request.source}: the list is made; leave it out")
        return NoiseSpec(request.kind, request.unit, rate, request.source, seed=0)  # the file tells the rest
    if rate == 0 or request.kind in ("none", REAL):
        if rate > 0:
            raise UsageError(f"--noise {rate} with --noise-kind {request.kind} contradict each other; drop one of them")
        real = request.kind == REAL or (card.natural_noise and request.kind != "none")
        return NoiseSpec(kind=REAL if real else "none", unit="caption", rate=0.0, source="generated", seed=0)
    source = resolve_source(card, split, request.kind, request.unit, rate, request.source)
    if request.noise_seed == "per-run":
        if source == "official":
            raise UsageError(
                "an official noise list has one seed; use --noise-source generated with --noise-seed per-run"
            )
        return _pmp(request, NoiseSpec(request.kind, request.unit, rate, source, seed))
    try:
        noise_seed = int(request.noise_seed)
    except ValueError:
        raise UsageError(f"--noise-seed '{request.noise_seed}' is neither a whole number nor per-run") from None
    if noise_seed < 0:
        raise UsageError(f"--noise-seed {noise_seed} is negative; give 0 or more, or per-run")
    return _pmp(request, NoiseSpec(request.kind, request.unit, rate, source, noise_seed))


def _pmp(request: Request, spec: NoiseSpec) -> NoiseSpec:
    """The spec with the fields of kind ``pmp`` as asked for; the scorer by content."""
    scorer = scorer_address(request.scorer) if spec.kind == PMP else request.scorer or ""
    return dataclasses.replace(spec, scorer=scorer, threshold=request.pmp_threshold, quantile=request.pmp_quantile)


@functools.lru_cache(maxsize=64)
def _index(fingerprint: str, split: str, spec: NoiseSpec, root: Path, dataset: _Same) -> NoiseIndex:
    del fingerprint
    return make_index(dataset.value, split, spec, root)


@dataclasses.dataclass(frozen=True)
class _Same:
    """Hides a dataset from the cache key: the fingerprint beside it says what it is."""

    value: Dataset = dataclasses.field(compare=False)


def noise_index(
    dataset: Dataset, split: str, spec: NoiseSpec, root: Path, scorer: str | None = None, progress: Progress = silent
) -> NoiseIndex:
    """The noise index of a spec, made once per process; kind ``pmp`` is drawn where this data root has no list yet."""
    ensure_list(dataset, split, spec, scorer, root, progress)
    return _index(dataset.fingerprint, split, spec, root, _Same(dataset))


def _recipe(request: Request, card: MethodCard, tuning: str, settings: Mapping[str, str]) -> Recipe:
    base = COMMON.get(tuning, COMMON_FULL)
    if request.recipe == "paper":
        if not card.paper_recipe:
            raise CapabilityError(f"method '{card.name}' has no published recipe; use --recipe common")
        base = Recipe(name="paper", **{k: v for k, v in card.paper_recipe.items() if k != "name"})
    return dataclasses.replace(base, **_typed_recipe(base, settings))


def _typed_recipe(base: Recipe, settings: Mapping[str, str]) -> dict[str, Any]:
    """Fields of a recipe from text.

    Raises:
        UnknownNameError: no such field; the nearest are shown.
        UsageError: a value of another type.
    """
    known = [f.name for f in dataclasses.fields(Recipe)]
    for name in settings:
        if name not in known:
            raise UnknownNameError("recipe field", name, known)
    return {name: cast_like(f"recipe.{name}", text, getattr(base, name)) for name, text in settings.items()}


def _revisions(
    name: str, method: MethodCard, backbone: BackboneCard, dataset: DatasetCard, weights: str
) -> dict[str, Any]:
    """Revision numbers, and digests of files that are not part of the package."""
    found: dict[str, Any] = {"method": method.revision, "backbone": backbone.revision, "dataset": dataset.revision}
    own = None if weights in backbone.weights else _digest(Path(weights))
    files = {"method_file": card_digest(name), "weights_file": own}
    return found | {k: v for k, v in files.items() if v is not None}


@functools.cache
def _digest(path: Path) -> str | None:
    """sha256 of a local file, or of the names and contents of the files in a folder."""
    if path.is_dir():
        files = {f.name: _digest(f) for f in sorted(path.iterdir()) if f.is_file()}
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def tuned_table() -> list[dict[str, Any]]:
    """Rows of ``tuned.toml``: what the common recipe's search on validation chose."""
    text = files("rsbench.experiment").joinpath("tuned.toml").read_text(encoding="utf-8")
    return list(tomllib.loads(text).get("chosen", []))


def _tuned(request: Request, dataset: str, backbone: str, tuning: str, method: str) -> dict[str, Any]:
    """Searched hyper-parameters of a method under the common recipe; empty where nothing was searched."""
    if request.recipe != "common" or not request.tuned:
        return {}
    wanted = {"dataset": dataset, "backbone": backbone, "tuning": tuning, "method": method}
    rows = [r for r in tuned_table() if all(r[k] == v for k, v in wanted.items())]
    return dict(rows[0]["params"]) if rows else {}
