"""Draw the diagnostics pictures of the method pages from runs on this machine.

    rsbench run --config benchmarks/grids/toy-tokens.toml
    rsbench run --config benchmarks/grids/toy-tokens-pmpguard.toml
    python docs/draw_methods.py

Each picture comes from the run with 40 % noise and seed 0; pair records stay on the user's disk, so the runs must have
been made here. Pictures go to docs/images/methods.
"""

from __future__ import annotations

from pathlib import Path

from rsbench.data.root import data_root
from rsbench.experiment.diagnose import epoch_numbers, figures
from rsbench.experiment.pair_records import open_records
from rsbench.report.plots import save
from rsbench.results.frame import load_results

ROOT = Path(__file__).parents[1]
RESULTS, PICTURES = ROOT / "results" / "toy-tokens", ROOT / "docs" / "images" / "methods"
RATE, SEED = 0.4, 0

SHOWN = {
    "infonce": ("clean_score", "detection"),
    "vse": ("clean_score", "detection"),
    "rcl": ("clean_score", "detection"),
    "srem": ("energy_i2t", "noise_pull", "division"),
    "rrsitr": ("weights", "division"),
    "recon": ("records", "division"),
    "pmpguard": ("boundary", "clean_score"),
    "rdb": ("loss_weights", "clean_score"),
}
"""Figures of `rsbench diagnose` on each page."""


def main() -> None:
    """Draw every page's figures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for result in load_results([RESULTS]):
        spec = result["spec"]
        if spec["noise"]["rate"] != RATE or spec["seed"] != SEED or spec["variant"] != "full":
            continue
        records = open_records(RESULTS / result["hash"], data_root())
        for picture, figure in figures(records, epoch_numbers(records)):
            if picture.name in SHOWN[spec["method"]]:
                save(figure, PICTURES, f"{spec['method']}-{picture.name}")
                print(spec["method"], picture.name)
    for vector in PICTURES.glob("*.svg"):
        vector.unlink()  # the pages show the PNG


if __name__ == "__main__":
    main()
