"""Paired differences of test mR between methods, seed by seed, with their 95 % interval (Student's t).

    python benchmarks/paired.py results/toy-tokens --against infonce
    python benchmarks/paired.py results/toy-tokens results/toy-tokens-ablations --against rrsitr --method rrsitr

Runs are paired within a table (same dataset, split, noise list, recipe and selection) and a noise rate. An interval
that holds 0 says that these seeds show no difference; it is not corrected for the number of rows.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from rsbench.report.groups import TableKey, by_table, method_label, row_key
from rsbench.report.select import select
from rsbench.results.frame import load_results
from rsbench.results.schema import Result

BySeed = dict[int, float]


def interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean difference and half the width of its interval; NaN for fewer than two pairs."""
    from scipy.stats import t

    if len(differences) < 2:
        return statistics.fmean(differences), math.nan
    quantile = float(t.ppf((1 + level) / 2, len(differences) - 1))
    return statistics.fmean(differences), quantile * statistics.stdev(differences) / math.sqrt(len(differences))


def test_mr(results: Sequence[Result]) -> dict[tuple[float, str], BySeed]:
    """(rate, method) -> run seed -> test mR of the best epoch."""
    found: dict[tuple[float, str], BySeed] = defaultdict(dict)
    for result in results:
        spec = result["spec"]
        cell = found[row_key(spec).rate, method_label(spec)]
        if int(spec["seed"]) in cell:
            raise SystemExit(f"two runs of {method_label(spec)} at {spec['noise']['rate']} with seed {spec['seed']}")
        cell[int(spec["seed"])] = result["test"]["best"]["mr"]
    return found


def rows_of(found: Mapping[tuple[float, str], BySeed], against: str) -> list[list[str]]:
    """Table rows, best difference first within a rate."""
    rows = []
    for (rate, method), runs in found.items():
        base = found.get((rate, against), {})
        seeds = sorted(runs.keys() & base.keys())
        if method == against or not seeds:
            continue
        mean, half = interval([runs[s] - base[s] for s in seeds])
        verdict = "higher" if mean - half > 0 else "lower" if mean + half < 0 else "no difference shown"
        values = (statistics.fmean(runs[s] for s in seeds), statistics.fmean(base[s] for s in seeds))
        text = [f"{rate:g}", method, *(f"{v:.2f}" for v in values), f"{mean:+.2f} ± {half:.2f}", verdict]
        rows.append((rate, -mean, [*text, str(len(seeds))]))
    return [text for _, _, text in sorted(rows)]


def title(key: TableKey) -> str:
    """What a table shares, in a few words."""
    noise = "" if key.noise is None else f", {key.noise[0]} noise per {key.noise[1]}"
    return f"{key.dataset}{noise}, recipe {key.recipe}"


def markdown(folders: Sequence[Path], against: str, methods: Sequence[str] = (), noise: Sequence[str] = ()) -> str:
    """One table per dataset and kind of noise."""
    wanted = [*methods, against] if methods else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = select(load_results(folders), methods=wanted, noise=noise, validation=False)
    head = ["Noise", "Method", "mR", f"mR of {against}", "difference, 95 % interval", "", "pairs"]
    text = []
    for key, runs in by_table(results).items():
        rows = rows_of(test_mr(runs), against)
        if rows:
            lines = [head, ["---:", "---", "---:", "---:", "---:", "---", "---:"], *rows]
            text += [title(key), "", *("| " + " | ".join(cells) + " |" for cells in lines), ""]
    return "\n".join(text)


def parser() -> argparse.ArgumentParser:
    """Words of the command."""
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    found.add_argument("results", type=Path, nargs="+")
    found.add_argument("--against", required=True, help="method that the others are compared with")
    found.add_argument("--method", default="", help="only these methods, comma list")
    found.add_argument("--noise", default="", help="only these rates, comma list")
    return found


def table_of(words: Sequence[str], root: Path = Path()) -> str:
    """Markdown for the words of a command."""
    args = parser().parse_args(words)
    lists = ([item for item in text.split(",") if item] for text in (args.method, args.noise))
    return markdown([root / folder for folder in args.results], args.against, *lists)


if __name__ == "__main__":
    import sys

    print(table_of(sys.argv[1:]))
