"""A run folder opened to look at its pairs: what was shown, what is true, what each epoch recorded."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from rsbench.data.dataset import Dataset
from rsbench.data.lifecycle import open_dataset
from rsbench.errors import ResultError
from rsbench.experiment.evaluate import read_spec
from rsbench.experiment.run import shown_pairs
from rsbench.experiment.spec import RunSpec
from rsbench.noise.index import NoiseIndex, known_mismatches
from rsbench.progress import Progress, silent
from rsbench.results.store import RunFolder

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class PairRecords:
    """Per-pair records of one run, read from disk as they are asked for.

    Attributes:
        folder: of the run.
        root: data folder.
        epochs: those with records, from 0, ascending.
        history: one line per epoch; empty for a run that was stopped.
        best: epoch with the best validation mR, None where it is not known.
    """

    folder: RunFolder
    root: Path
    spec: RunSpec
    dataset: Dataset
    index: NoiseIndex
    epochs: tuple[int, ...]
    history: list[dict[str, Any]] = field(default_factory=list)
    best: int | None = None

    @cached_property
    def truth(self) -> npt.NDArray[np.bool_] | None:
        """Bool ``[P]``, mismatched pairs; None where the data came noisy or no pair is mismatched."""
        found = known_mismatches(self.dataset, self.index)
        return found if found is not None and found.any() else None

    def names(self, epoch: int) -> list[str]:
        """Names of the records of an epoch, sorted."""
        with self._open(epoch) as handle:
            return sorted(handle.keys())

    def read(self, epoch: int, name: str) -> Values | None:
        """One record ``[P]`` of one epoch; None where that epoch has none.

        Raises:
            ResultError: the file is damaged, or of another number of pairs.
        """
        with self._open(epoch) as handle:
            if name not in handle.keys():  # noqa: SIM118
                return None
            values: Values = handle.get_tensor(name)
        if values.shape != (len(self.index.pairs),):
            raise ResultError(
                f"{self._path(epoch)}: '{name}' has shape {list(values.shape)}, the run has "
                f"{len(self.index.pairs)} pairs; run it again with --overwrite always"
            )
        return values

    def _path(self, epoch: int) -> Path:
        return self.folder.pairs / f"epoch-{epoch:03d}.safetensors"

    def _open(self, epoch: int) -> Any:
        try:
            return safe_open(self._path(epoch), "np")
        except (SafetensorError, OSError) as error:
            raise ResultError(
                f"{self._path(epoch)} is damaged ({error}); run it again with --overwrite always"
            ) from None


def open_records(run: Path, root: Path, progress: Progress = silent) -> PairRecords:
    """Open a run folder.

    Args:
        run: the folder.
        root: data folder, for the dataset and its noise list.
        progress: told while a generated dataset is made.

    Raises:
        UsageError: no run folder.
        ResultError: no records, or made from other data.
        DataError: the dataset is not prepared.
    """
    spec, folder = read_spec(run), RunFolder(run.parent, run.name)
    epochs = sorted(int(p.stem.partition("-")[2]) for p in folder.pairs.glob("epoch-*.safetensors"))
    if not epochs:
        raise ResultError(
            f"run '{run}' has no pair records (pairs/epoch-*.safetensors are not committed with results); make them "
            f"on this machine: {rerun_line(spec)}"
        )
    dataset = open_dataset(spec.dataset, root, progress)
    index = shown_pairs(spec, dataset, root)
    result = folder.read_result() if folder.result.exists() else {}
    history = [json.loads(line) for line in folder.history.read_text().splitlines()] if folder.history.exists() else []
    return PairRecords(folder, root, spec, dataset, index, tuple(epochs), history, result.get("best_epoch"))


def rerun_line(spec: RunSpec) -> str:
    """A command that makes a run like this one in a folder of its own."""
    variant = "" if spec.variant == "full" else f":{spec.variant}"
    words = ["rsbench", "run", "--dataset", spec.dataset, "--method", spec.method + variant]
    words += ["--backbone", spec.backbone, "--noise", f"{spec.noise.rate:g}"]
    if spec.noise.rate > 0:
        words += ["--noise-kind", spec.noise.kind, "--noise-unit", spec.noise.unit]
    words += ["--scorer", spec.noise.scorer] if spec.noise.scorer else []
    words += ["--seed-list", str(spec.seed), "--out", "diagnosed"]
    return shlex.join(words)
