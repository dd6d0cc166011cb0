"""The command line: one file per verb, and one place where errors become a line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from rsbench import __version__
from rsbench.cli.audit import audit
from rsbench.cli.bundle import bundle
from rsbench.cli.compare import compare, rank
from rsbench.cli.console import errors, say_error
from rsbench.cli.cost import cost
from rsbench.cli.describe import describe
from rsbench.cli.diagnose import diagnose
from rsbench.cli.doctor import doctor
from rsbench.cli.evaluate import evaluate
from rsbench.cli.gc import gc
from rsbench.cli.listing import list_names
from rsbench.cli.logs import logs
from rsbench.cli.mock import mock
from rsbench.cli.noise import noise
from rsbench.cli.plan import plan
from rsbench.cli.prepare import prepare
from rsbench.cli.published import published
from rsbench.cli.query import query
from rsbench.cli.report import report
from rsbench.cli.retry import retry
from rsbench.cli.run import run
from rsbench.cli.ship import export, import_
from rsbench.cli.status import status
from rsbench.cli.table import table
from rsbench.errors import RsbenchError

DONE, USAGE, INTERRUPTED = 0, 2, 130
"""Exit codes of this file; a verb itself exits with 1 where some job failed and the rest went on."""

DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT)

app = typer.Typer(
    name="rsbench",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., None]] = {
    "prepare": prepare,
    "run": run,
    "plan": plan,
    "status": status,
    "logs": logs,
    "retry": retry,
    "gc": gc,
    "eval": evaluate,
    "table": table,
    "published": published,
    "compare": compare,
    "rank": rank,
    "query": query,
    "cost": cost,
    "bundle": bundle,
    "export": export,
    "import": import_,
    "report": report,
    "diagnose": diagnose,
    "audit": audit,
    "list": list_names,
    "describe": describe,
    "noise": noise,
    "mock": mock,
    "doctor": doctor,
}
for _verb, _command in COMMANDS.items():
    app.command(_verb)(_command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"rsbench {__version__}")
        raise typer.Exit


@app.callback()
def rsbench(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Benchmark suite for noise-robust image-text retrieval.

    Start with `rsbench run --method srem --noise 0.4 --seeds 5`, look around with `rsbench list`.
    """
    del version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: words after ``rsbench``; those of the process by default.

    Returns:
        0 all done; 1 some job failed, the others went on; 2 the input cannot be used; 130 interrupted.
    """
    try:
        words = None if arguments is None else list(arguments)
        code = app(words, prog_name="rsbench", standalone_mode=False) or DONE
    except TyperException as error:
        return _usage_error(error)
    except RsbenchError as error:
        say_error(str(error))
        return USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        return _system_error(error)
    except (KeyboardInterrupt, Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        errors.print("interrupted; run the same command again to continue")
    return int(code)


def _usage_error(error: TyperException) -> int:
    """One line for a flag or argument that does not parse; where nothing was typed, the help is already shown."""
    if message := error.format_message():
        context = getattr(error, "ctx", None)
        say_error(f"{message.rstrip('.')}; see `{context.command_path if context else 'rsbench'} --help`")
    return USAGE


def _system_error(error: OSError) -> int:
    """One line for a full disk or a forbidden path; anything else is ours and keeps its traceback."""
    where = error.filename or "the output folder"
    if error.errno in FULL:
        say_error(f"no space left on device while writing {where}; free some, then run the same command again")
    elif error.errno in DENIED:
        say_error(f"no permission for {where} ({os.strerror(error.errno)}); choose another folder or change its owner")
    else:
        raise error
    return USAGE
