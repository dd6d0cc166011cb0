"""What stands under a table: where its numbers come from and what is wrong with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rsbench.report.groups import Group, TableKey, flatten, method_label
from rsbench.results.schema import Result

SELECTIONS = {
    "val_mr": "best epoch by validation mR, unrounded, earliest wins",
    "val_mr_round2": "best epoch by validation mR rounded to 2 decimals, earliest wins",
}


def notes_of(key: TableKey, groups: Sequence[Group], failed: Sequence[Result], pool: Sequence[str]) -> list[str]:
    """All notes of a table, most general first."""
    runs = [r for g in groups for r in g.runs]
    found = [*_provenance(key, groups, runs), *_reading(key, groups)]
    if pool:
        found.append(f"pooled on request although they differ: {', '.join(_pooled(runs, pool))}")
    return [*found, *doubts(groups, runs, failed)]


def _provenance(key: TableKey, groups: Sequence[Group], runs: Sequence[Result]) -> list[str]:
    part = "test" if key.held_out else "val"
    sizes = _distinct(str(r.get("dataset", {}).get("parts", {}).get(part, "?")) for r in runs)
    found = [
        f"dataset {key.dataset}, fingerprint {key.fingerprint[:12] or 'not recorded'}, split {key.split}, "
        f"{part} part of {sizes} images" + (f", means over {key.folds} equal folds of it" if key.folds > 1 else "")
    ]
    if len({g.key[2:] for g in groups}) == 1:
        first = groups[0].key
        found.append(f"backbone {first.backbone}, weights {first.weights}, tuning {first.tuning}")
    files: dict[float, list[str]] = defaultdict(list)
    shares: dict[float, list[str]] = defaultdict(list)
    scorers: dict[float, list[str]] = defaultdict(list)
    for group in groups:
        for run in group.runs:
            noise = run.get("noise", {})
            files[group.key.rate].append(str(noise.get("sha256", run["spec"].get("noise_sha256", "")))[:8] or "?")
            if isinstance(noise.get("mismatched"), float):
                shares[group.key.rate].append(f"{100 * noise['mismatched']:.1f}")
            if noise.get("scorer"):
                scorers[group.key.rate].append(_scorer(noise))
    for rate in sorted(r for r in files if r > 0):
        line = f"noise {rate:g}: list {_distinct(files[rate])}"
        line += f", mismatched pairs {_distinct(shares[rate])} %" if shares[rate] else ""
        found.append(line + (f", captions scored by {_distinct(scorers[rate])}" if scorers[rate] else ""))
    if key.noise is not None and key.noise[0] == "real":
        found.append("pairs come noisy and no truth is known: no share of mismatched pairs, no AUROC")
    return found


def _reading(key: TableKey, groups: Sequence[Group]) -> list[str]:
    how = SELECTIONS.get(key.selection, key.selection)
    read = (
        "test part read once per run" if key.held_out else "validation numbers only: they choose settings, not winners"
    )
    found = [f"selection: {how}; {read}; last mR: the same after the last epoch"]
    found.append(
        "mean ± sample standard deviation (n-1) over the n runs of a row (one per seed), recalls and mR in percent"
    )
    if any(len(g.runs) == 1 for g in groups):
        found.append("rows with n = 1 have no ±: one run says nothing about the spread")
    found.append(
        "best mean of each noise rate in bold, second underlined (plain text: *...*, _..._); no significance test"
    )
    detectors: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        for run in group.runs:
            if run.get("detection"):
                detectors[str(run.get("method", {}).get("detector", "not recorded"))].append(group.key.method)
    if detectors:
        words = "; ".join(f"detector {d}: {_distinct(sorted(m))}" for d, m in sorted(detectors.items()))
        found.append(f"AUROC: mismatched training pairs found by the clean scores of the best epoch; {words}")
    return found


def doubts(groups: Sequence[Group], runs: Sequence[Result], failed: Sequence[Result]) -> list[str]:
    """What a reader should be wary of: failed runs, missing seeds, partial datasets, versions, copies."""
    found = []
    if failed:
        names = _distinct(f"{method_label(r['spec'])} {_rate(r)} seed {r['spec']['seed']}" for r in failed)
        found.append(f"{len(failed)} failed run(s) left out: {names}")
    seeds = {int(r["spec"]["seed"]) for r in runs}
    for group in groups:
        gone = sorted(seeds - {int(r["spec"]["seed"]) for r in group.runs})
        if gone:
            found.append(f"{group.key.method} at {group.key.rate:g}: no seed {', '.join(map(str, gone))}")
    missing = {int(r.get("dataset", {}).get("missing", 0)) for r in runs}
    if missing - {0}:
        found.append(f"partial dataset: {_distinct(map(str, sorted(missing)))} images missing")
    versions = {str(r.get("environment", {}).get("rsbench", "")) for r in runs} - {""}
    if len(versions) > 1:
        found.append(
            f"made by rsbench {_distinct(sorted(versions))}; runs of other revisions stand in rows of their own"
        )
    return [*found, *dict.fromkeys(w for r in runs for w in r.get("warnings", []) if "stored twice" in w)]


def _scorer(noise: Mapping[str, Any]) -> str:
    """Who chose the captions of a ``pmp`` list, and how many of them are not below its threshold."""
    share = noise.get("share_fallback", 0.0)
    words = [f"{noise['scorer']['name']} below {noise['threshold']:.4g}"]
    words += [f"{100 * share:.1f} % of the captions not below it"] if share else []
    return ", ".join([*words, *noise.get("warnings", ())])


def _rate(result: Result) -> str:
    return f"{float(result['spec']['noise']['rate']):g}"


def _pooled(runs: Sequence[Result], pool: Sequence[str]) -> list[str]:
    flat = [flatten(r["spec"]) for r in runs]
    return [f"{name} ({_distinct(str(f.get(name, '—')) for f in flat)})" for name in pool]


def _distinct(words: Iterable[str], most: int = 8) -> str:
    """Each word once, in order; cut after ``most``."""
    once = list(dict.fromkeys(words))
    return ", ".join(once[:most]) + (f" and {len(once) - most} more" if len(once) > most else "")
