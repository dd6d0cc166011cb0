"""Launchers by name: the settings that each takes, and where its function is. No torch, ray or submitit."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from rsbench.casting import cast_like
from rsbench.errors import UnknownNameError, UsageError
from rsbench.registry import LAUNCHERS, resolve

if TYPE_CHECKING:
    from rsbench.experiment.launch.base import Launch


@dataclass(frozen=True)
class LocalSettings:
    """Worker processes on this machine.

    Attributes:
        slots: runs at the same time; 0 = one per core, on GPUs ``per_gpu`` each. One slot runs in the driver itself.
        per_gpu: runs that share one GPU.
        memory_mb: most main memory of one worker in MB, 0 for no limit; a run above it is stopped and said.
    """

    slots: int = 0
    per_gpu: int = 1
    memory_mb: int = 0

    def __post_init__(self) -> None:
        _at_least(self, slots=0, per_gpu=1, memory_mb=0)


@dataclass(frozen=True)
class RaySettings:
    """A Ray cluster.

    Attributes:
        address: of a running cluster, ``auto`` for the one this machine belongs to, empty for a local one.
        cpus: cores that one run reserves; fractions share a core.
        gpus: GPUs that one run reserves; fractions share a GPU.
        retries: how often a run is started again after its worker was lost.
        ship: whether data and results are moved through Ray: ``auto`` (where the folders are not shared), yes or no.
    """

    address: str = ""
    cpus: float = 1.0
    gpus: float = 0.0
    retries: int = 3
    ship: str = "auto"

    def __post_init__(self) -> None:
        _at_least(self, cpus=0, gpus=0, retries=0)
        _one_of(self, ship=("auto", "yes", "no"))


@dataclass(frozen=True)
class SlurmSettings:
    """Job arrays of SLURM, through submitit.

    Attributes:
        partition: of the cluster; empty for its default.
        account: that pays; empty for the user's default.
        minutes: time limit of one array task.
        array: most array tasks at the same time.
        runs_per_job: runs that one array task carries out one after another.
        cpus: cores of a task.
        gpus: GPUs of a task.
        memory_mb: main memory of a task in MB, 0 for the cluster's default.
        retries: how often a run is submitted again after its task ended without a result (killed, a lost node).
        requeues: how often one task goes on after its time limit.
        executor: ``slurm``, or ``local`` to try the same road without a cluster.
    """

    partition: str = ""
    account: str = ""
    minutes: int = 60
    array: int = 64
    runs_per_job: int = 1
    cpus: int = 1
    gpus: int = 0
    memory_mb: int = 0
    retries: int = 2
    requeues: int = 10
    executor: str = "slurm"

    def __post_init__(self) -> None:
        _at_least(self, minutes=1, array=1, runs_per_job=1, cpus=1, gpus=0, memory_mb=0, retries=0, requeues=0)
        _one_of(self, executor=("slurm", "local"))


@dataclass(frozen=True)
class LauncherCard:
    """One launcher.

    Attributes:
        settings: dataclass of its settings, all with defaults.
        target: ``module:launch``, a ``base.Launch``.
        warm_up: whether features are computed here, once, before the first job starts.
    """

    name: str
    settings: type[Any]
    target: str
    warm_up: bool = True

    @property
    def launch(self) -> Launch:
        """The launcher itself; imports what it runs on."""
        return cast("Launch", resolve(self.target))


LOCAL = LauncherCard("local", LocalSettings, "rsbench.experiment.launch.local:launch")
RAY = LauncherCard("ray", RaySettings, "rsbench.experiment.launch.ray_cluster:launch")
SLURM = LauncherCard("slurm", SlurmSettings, "rsbench.experiment.launch.slurm:launch", warm_up=False)


def launcher_card(name: str) -> LauncherCard:
    """The card of a registered launcher.

    Raises:
        UnknownNameError: no such launcher.
        DependencyError: its extra is not installed.
        UsageError: an entry point of another package names something else.
    """
    card = LAUNCHERS.load(name)
    if not isinstance(card, LauncherCard):
        raise UsageError(f"entry point of launcher '{name}' must name a LauncherCard")
    return card


def settings_of(name: str, items: Sequence[str]) -> Any:
    """The settings of a launcher from ``KEY=VALUE`` items (one item may hold several, separated by commas).

    Args:
        name: of the launcher.
        items: as typed; what is not given keeps its default.

    Raises:
        UnknownNameError: no such launcher or setting; the nearest are shown.
        UsageError: no ``=``, or a value that the setting does not take.
        DependencyError: the extra of the launcher is not installed.
    """
    kind = launcher_card(name).settings
    defaults = {f.name: f.default for f in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for item in (part for text in items for part in text.split(",") if part.strip()):
        key, equals, value = (word.strip() for word in item.partition("="))
        if not equals:
            raise UsageError(f"--launch '{item}' has no '='; write --launch {next(iter(defaults))}=VALUE")
        if key not in defaults:
            raise UnknownNameError(f"setting of launcher {name}", key, defaults)
        values[key] = cast_like(f"--launch {key}", value, defaults[key])
    return kind(**values)


def settings_told(name: str) -> list[str]:
    """Every setting of a launcher with its default and meaning, a line each; its extra need not be installed."""
    kind = resolve(LAUNCHERS.entry(name).target).settings
    lines = (inspect.getdoc(kind) or "").partition("Attributes:")[2].splitlines()
    meaning = {k.strip(): v.strip() for k, colon, v in (line.partition(":") for line in lines) if colon}
    return [f"{f.name}={f.default}: {meaning.get(f.name, '')}" for f in dataclasses.fields(kind)]


def _at_least(settings: Any, **least: float) -> None:
    for name, bound in least.items():
        if not getattr(settings, name) >= bound:
            raise UsageError(f"--launch {name}={getattr(settings, name)}: give {bound} or more")


def _one_of(settings: Any, **choices: tuple[str, ...]) -> None:
    for name, allowed in choices.items():
        if getattr(settings, name) not in allowed:
            raise UsageError(f"--launch {name}={getattr(settings, name)}: use one of {', '.join(allowed)}")
