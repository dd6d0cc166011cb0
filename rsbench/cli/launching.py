"""Carrying out a plan: warm-up, launcher, progress, what is left undone."""

from __future__ import annotations

import json
import os
import tempfile
from typing import TYPE_CHECKING, Any

from rsbench.cli.asking import Asked
from rsbench.cli.console import console, errors, progress_bar
from rsbench.errors import RsbenchError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from rsbench.experiment.launch.cards import LauncherCard
    from rsbench.experiment.plan import Job
    from rsbench.experiment.run import Options
    from rsbench.experiment.spec import RunSpec


def launcher_of(asked: Asked) -> tuple[LauncherCard, Any]:
    """The launcher that was asked for, and its settings; ``--jobs`` is a setting of ``local``.

    Raises:
        UsageError: unknown launcher or setting, a value it does not take, ``--jobs`` where it says nothing.
        DependencyError: the extra of the launcher is not installed.
    """
    from rsbench.experiment.launch.cards import launcher_card, settings_of

    name, jobs = asked.get("launcher", "local"), asked["jobs"]
    items = list(asked.get("launch") or ())
    card = launcher_card(name)
    if jobs < 0:
        raise UsageError(f"--jobs {jobs}: give the number of worker processes, or 0 for one per core")
    if jobs and name != "local":
        raise UsageError(f"--jobs {jobs} is for --launcher local; '{name}' takes --launch (`rsbench describe {name}`)")
    settings = settings_of(name, items)
    if not jobs:
        return card, settings
    if settings.slots not in (0, jobs):
        raise UsageError(f"--jobs {jobs} and --launch slots={settings.slots} contradict each other; drop one")
    return card, settings_of(name, [*items, f"slots={jobs}"])


def parallel_runs(asked: Asked) -> int:
    """Runs at the same time, as far as that is known without asking for GPUs or a cluster."""
    _, settings = launcher_of(asked)
    asked_for = int(getattr(settings, "slots", 0) or getattr(settings, "array", 0))
    return asked_for or len(os.sched_getaffinity(0))


def launch_plan(planned: list[Job], asked: Asked) -> int:
    """Run what is to do.

    Args:
        planned: jobs.
        asked: parameters of the command: ``out``, ``root``, ``device``, ``jobs``, ``overwrite``, ``no_weights``, and
            ``launcher`` with ``launch`` where it has them.

    Returns:
        Number of jobs that did not finish, impossible ones included.

    Raises:
        RsbenchError: nothing can be started.
        OSError: the results folder cannot be written, or the disk is full.
    """
    from rsbench.data.root import data_root
    from rsbench.experiment.plan import IMPOSSIBLE
    from rsbench.experiment.run import Options

    todo = [j for j in planned if j.todo]
    impossible = sum(j.state == IMPOSSIBLE for j in planned)
    kept = len(planned) - len(todo) - impossible
    if kept:
        console.print(f"{kept} of {len(planned)} runs are kept as they are (--overwrite {asked['overwrite']})")
    if not todo:
        return impossible
    card, settings = launcher_of(asked)
    options = Options(data_root(asked["root"]), asked["out"], asked["device"], not asked["no_weights"])
    _check_writable(options.out)
    ready = _warm_up(todo, options) if card.warm_up else todo
    failed = len(todo) - len(ready) + _launch(ready, planned, card, settings, options)
    if failed:
        errors.print(f"{failed} of {len(todo)} runs did not finish; the same command tries them again")
    return failed + impossible


def _launch(todo: list[Job], planned: list[Job], card: LauncherCard, settings: Any, options: Options) -> int:
    """The number of jobs that were not done."""
    from rsbench.cli.live import GridView, label
    from rsbench.experiment.drive import drive
    from rsbench.experiment.estimate import longest_first, read_past
    from rsbench.results.plans import Planned, remember_plan

    past = read_past(options.out)
    notes = [Planned(j.spec.hash, label(j), past.seconds(j.spec)) for j in planned]
    remember_plan(options.out, notes, detached=card.name == "slurm")
    view, unfinished = GridView(todo), 0
    with view.shown():
        for outcome in drive(card.launch, longest_first(todo, past), options, settings, view.notify, _say_waiting):
            view.close(outcome)
            unfinished += outcome.status != "done"
    return unfinished


def _say_waiting(runs: int) -> None:
    errors.print(f"{runs} runs are being worked on by another process; waiting for them (Ctrl-C leaves them to it)")


def _check_writable(out: Path) -> None:
    """Meet a read-only folder before features are computed for it."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=out, prefix="."):
        pass


def _warm_up(todo: list[Job], options: Options) -> list[Job]:
    """Compute features once, with all cores and a progress bar, and meet missing weights before any run starts.

    Returns:
        Jobs whose data and backbone are there.

    Raises:
        RsbenchError: what keeps every job from running.
    """
    from rsbench.experiment.run import materials
    from rsbench.training.device import choose_device

    choose_device(options.device)
    keys = {j.spec.hash: _shared(j.spec) for j in todo}
    first = {keys[j.spec.hash]: j.spec for j in todo}
    wrong: dict[str, RsbenchError] = {}
    with progress_bar() as progress:
        for key, spec in first.items():
            try:
                materials(spec, options.root, progress)
            except RsbenchError as error:
                if isinstance(error, OSError):
                    raise
                wrong[key] = error
    ready = [j for j in todo if keys[j.spec.hash] not in wrong]
    if not ready:
        raise next(iter(wrong.values()))
    for key, reason in wrong.items():
        runs = sum(keys[j.spec.hash] == key for j in todo)
        errors.print(f"impossible: {runs} runs on {first[key].dataset}: {reason}", markup=False, soft_wrap=True)
    return ready


def _shared(spec: RunSpec) -> str:
    """Names the data and the backbone that a run starts from."""
    from rsbench.experiment.launch.pending import warmth
    from rsbench.methods.build import load_card

    return json.dumps([warmth(spec), bool(load_card(spec.method).needs_of(spec.params))])
