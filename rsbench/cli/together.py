"""One command in all processes of torchrun: the first one does it, the others help with its runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from rsbench.cli.asking import Asked
from rsbench.cli.console import errors
from rsbench.errors import UsageError
from rsbench.training.torchrun import Place, place

if TYPE_CHECKING:
    from rsbench.training.world import World

GRACE_SECONDS = 5.0
"""How long the first process has to say and record an error that all met, before another one says it."""


def in_step(read: Callable[[], list[Asked]], lead: Callable[[list[Asked]], None]) -> None:
    """Do what was asked; under torchrun in the first process, while the others take part in its runs.

    Args:
        read: gives the parts of the command.
        lead: does them.

    Raises:
        UsageError: what cannot be done by several processes was asked for.
        DependencyError: accelerate is not installed.
    """
    here = place()
    if here.size == 1:
        lead(read())
    elif here.rank == 0:
        _lead(_one_at_a_time(read()), lead)
    else:
        _follow(read, here)


def _one_at_a_time(parts: list[Asked]) -> list[Asked]:
    asked = parts[0]
    if asked["launcher"] != "local" or asked["launch"] or asked["jobs"] > 1:
        raise UsageError("torchrun does one run at a time, on all its processes; drop --launcher, --launch and --jobs")
    return [{**asked, "jobs": 1}, *parts[1:]]


def _lead(parts: list[Asked], lead: Callable[[list[Asked]], None]) -> None:
    from rsbench.training.world import join

    world = join(parts[0]["device"])
    code = 0
    try:
        lead(parts)
    except typer.Exit as ended:  # some run is impossible; the others are done
        code = ended.exit_code
    world.share(None)  # no more runs, see ``follow``
    _end(world, code)


def _end(world: World, code: int) -> None:
    """Leave together, without tearing the interpreter down: threads of gloo that it meets would abort it."""
    world.meet()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _follow(read: Callable[[], list[Asked]], here: Place) -> None:
    try:
        _take_part(read()[0])
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except ConnectionError:  # whoever ended has said why
        raise SystemExit(1) from None
    except Exception:
        time.sleep(GRACE_SECONDS)
        errors.print(f"in process {here.rank} of torchrun, counted from 0:", markup=False)
        raise


def _take_part(asked: Asked) -> None:
    from rsbench.data.root import data_root
    from rsbench.experiment.run import Options, follow
    from rsbench.training.world import join

    world = join(asked["device"])
    follow(Options(data_root(asked["root"]), asked["out"], asked["device"]))
    _end(world, 0)
