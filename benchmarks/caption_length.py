"""Do captions compare with each other under a score that is a mean over words? (PMPGuard Eq. 14)

    rsbench run --grid benchmarks/grids/toy-tokens-long.toml --out long
    rsbench run --grid benchmarks/grids/toy-tokens.toml --method infonce --noise 0 --out long
    python benchmarks/caption_length.py long --out benchmarks/results/caption_length_toy.json

    rsbench run --grid benchmarks/grids/rsicd-2k-pmpguard.toml --noise 0 --out real
    rsbench run --grid benchmarks/grids/rsicd-2k.toml --method infonce --noise 0 --out real
    python benchmarks/caption_length.py real --out benchmarks/results/caption_length_rsicd_2k.json

For every run with weights below the folder: how the spread of a caption's scores depends on its number of words (a full
stop that stands apart is one), how long the captions are that are retrieved wrongly, and the recalls as they are and
after each caption's scores are standardised with their mean and deviation over the validation images. The last is a
diagnosis, no part of a method.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from torch import Tensor

from rsbench.data.root import data_root
from rsbench.evaluation.ranks import ranks_of_blocks
from rsbench.evaluation.retrieval import metrics
from rsbench.experiment.evaluate import trained_method
from rsbench.experiment.run import materials
from rsbench.progress import silent
from rsbench.results.frame import load_results
from rsbench.results.store import write_json
from rsbench.training.scoring import encode_all

BLOCK = 64
"""Images scored at once."""


@torch.no_grad()
def study(run: Path, root: Path) -> dict[str, float]:
    """One run on its test part."""
    spec, method = trained_method(run)
    shared = materials(spec, root, silent)
    data, inputs, device = shared.dataset, shared.inputs, torch.device("cpu")
    method.eval()
    pairs = data.pairs(spec.split, "test")
    text = encode_all(
        lambda i: method.encode_texts(inputs.texts(i, device)), torch.from_numpy(data.caption_text[pairs[:, 1]])
    )

    def scores(part: str) -> tuple[Tensor, Tensor]:
        ids = torch.from_numpy(data.part(spec.split, part).copy())
        image = encode_all(lambda i: method.encode_images(inputs.images(i, device)), ids)
        blocks = [method.similarity(image[a : a + BLOCK], text) for a in range(0, len(ids), BLOCK)]
        return ids, torch.cat(blocks).float()

    ids, test = scores("test")
    owner = torch.searchsorted(ids, torch.from_numpy(pairs[:, 0].copy()))
    assert bool((ids[owner] == torch.from_numpy(pairs[:, 0].copy())).all()), "test images in ascending order"
    _, unseen = scores("val")
    words = torch.tensor([float(len(data.texts[t].split())) for t in data.caption_text[pairs[:, 1]]])
    spread = unseen.std(0)
    first = test.argmax(1)
    wrong = owner[first] != torch.arange(len(ids))
    own_words = torch.zeros(len(ids)).scatter_reduce(0, owner, words, "mean", include_self=False)
    return {
        "fewest_words": float(words.min()),
        "most_words": float(words.max()),
        "correlation_words_spread": float(torch.corrcoef(torch.stack((words, spread)))[0, 1]),
        "wrong_first": 100 * float(wrong.float().mean()),
        "words_of_wrong_first": float(words[first[wrong]].mean()),
        "words_of_own": float(own_words[wrong].mean()),
        **recalls(test, owner, "as_is"),
        **recalls((test - unseen.mean(0)) / spread, owner, "standardised"),
    }


def recalls(scores: Tensor, owner: Tensor, name: str) -> dict[str, float]:
    """R@1 both ways and mR of a score matrix."""
    found = metrics(ranks_of_blocks(lambda a, b: scores[a:b], len(scores), owner), owner)
    return {f"{name}_{k}": found[k] for k in ("i2t_r1", "t2i_r1", "mr")}  # type: ignore[literal-required]


def main() -> None:
    """Study, average, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    for result in load_results([args.folder]):
        if result["status"] == "done":
            found.setdefault(result["spec"]["method"], []).append(study(args.folder / result["hash"], data_root()))
    rows = {method: {k: mean_and_deviation([r[k] for r in runs]) for k in runs[0]} for method, runs in found.items()}
    write_json(args.out, {"runs": {m: len(runs) for m, runs in found.items()}, "mean_and_deviation": rows})
    for method, row in rows.items():
        print(method, *(f"\n  {k}: {v}" for k, v in row.items()))


def mean_and_deviation(values: list[float]) -> str:
    """Over seeds."""
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"


if __name__ == "__main__":
    main()
