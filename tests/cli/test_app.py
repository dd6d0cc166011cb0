"""The shell around the verbs: help, version, errors, exit codes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest
from rich.console import Console

from rsbench import __version__
from rsbench.cli import app as shell
from rsbench.cli.app import app, main
from rsbench.cli.complete import kinds, names_of
from rsbench.cli.console import LIVE, progress_bar, say_error
from rsbench.errors import DataError
from rsbench.registry import DATASETS, METHODS

VERBS = ("prepare", "run", "plan", "eval", "table", "list", "describe", "noise", "mock", "doctor")


@pytest.fixture
def failing(monkeypatch):
    """A verb ``fail`` that raises what it is told, for as long as a test lasts."""
    commands = list(app.registered_commands)
    raised: list[BaseException] = []

    @app.command("fail")
    def fail() -> None:
        raise raised[0]

    yield raised
    app.registered_commands[:] = commands


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rsbench {__version__}\n"


def test_help_names_every_verb(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [v for v in VERBS if f" {v} " not in shown] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert f"rsbench {verb}" in capsys.readouterr().out


def test_no_arguments_show_the_help_and_exit_2(capsys):
    assert main([]) == 2
    assert "Usage" in "".join(capsys.readouterr())


def test_error_is_one_line_on_stderr(failing, capsys):
    failing.append(DataError("a file\nof [two] lines " + "x" * 300))
    assert main(["fail"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: a file of [two] lines " + "x" * 300 + "\n"


def test_interrupt_says_how_to_go_on(failing, capsys):
    failing.append(KeyboardInterrupt())
    assert main(["fail"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted; run the same command again to continue"


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space left on device while writing /d/x"), (errno.EACCES, "no permission for /d/x")],
)
def test_full_disk_and_forbidden_path(failing, capsys, number, words):
    failing.append(OSError(number, os.strerror(number), "/d/x"))
    assert main(["fail"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_other_system_errors_keep_their_traceback(failing):
    failing.append(OSError(errno.EBADF, "bad"))
    with pytest.raises(OSError, match="bad"):
        main(["fail"])


def test_exit_code_of_a_verb_is_passed_on(failing):
    failing.append(shell.typer.Exit(1))
    assert main(["fail"]) == 1


def test_closed_pipe_is_quiet():
    script = "import sys; from rsbench.cli.app import main; sys.exit(main(['list']))"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(60)


def test_pipes_get_no_colour_and_no_bars(capsys):
    say_error("plain")
    with progress_bar() as progress:
        progress(f"work{LIVE}mR 1.0", 1, 2)
        progress("work", 2, 2)
    assert capsys.readouterr().err == "error: plain\n"


def test_bars_show_name_and_live_text(monkeypatch, capsys):
    monkeypatch.setattr("rsbench.cli.console.errors", Console(stderr=True, force_terminal=True, width=120))
    with progress_bar() as progress:
        progress(f"work{LIVE}mR 41.2", 1, 2)
        time.sleep(0.15)
    shown = capsys.readouterr().err
    assert "work" in shown
    assert "mR 41.2" in shown
    assert LIVE not in shown


def test_tab_offers_names_in_comma_lists_too():
    offer = names_of(METHODS, DATASETS)
    assert offer("sre") == ["srem"]
    assert offer("infonce,rc") == ["infonce,rcl"]
    assert offer("rsi") == ["rsicd", "rsicd-2k", "rsitmd"]
    assert kinds("d") == ["datasets"]
