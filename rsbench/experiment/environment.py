"""What a run ran on; recorded, never hashed."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import rsbench

RECORDED = ("torch", "numpy", "open_clip_torch", "timm", "transformers", "scikit-learn")


def environment(device: torch.device) -> dict[str, Any]:
    """Device, threads and versions."""
    return {
        "rsbench": rsbench.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "versions": {name: found for name in RECORDED if (found := _version(name))},
    }


def processor() -> str:
    """Name of the processor, with the number of cores."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            name = next((line.split(":", 1)[1].strip() for line in handle if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
