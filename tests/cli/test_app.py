"""What all commands share: exit statuses, errors of one line, interruption, the missing extra."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from flipcall import Status, errors
from flipcall.cli import app
from flipcall.cli.text import one_line, printable
from tests.cli.conftest import Flipcall, one_line_error
from tests.support import PATIENCE_S, Child, run_python, wait_until


def test_version(flipcall: Flipcall) -> None:
    """--version prints the installed version."""
    done = flipcall("--version")
    assert (done.returncode, done.stdout) == (0, f"flipcall {version('flipcall')}\n")


def test_help_names_every_command(flipcall: Flipcall) -> None:
    """--help lists the commands, each with a sentence."""
    done = flipcall("--help")
    assert done.returncode == 0
    for command in ("call", "demo", "doctor", "inspect"):
        assert f"\n  {command} " in done.stdout


def test_no_command_is_wrong_usage(flipcall: Flipcall) -> None:
    """Without a command the help goes to stderr, status 2."""
    done = flipcall()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage" in done.stderr


@pytest.mark.parametrize("args", [["dance"], ["call"], ["doctor", "--loud"], ["demo", "--calls", "many"]])
def test_wrong_usage_is_one_line(flipcall: Flipcall, args: list[str]) -> None:
    """A command line that cannot be understood is told in one line, status 2."""
    one_line_error(flipcall(*args), 2)


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_missing_extra_is_named(missing: str) -> None:
    """Without click or rich `flipcall` says which extra to install, in one line, status 2."""
    done = run_python(
        """
        import sys
        sys.modules[sys.argv[1]] = None
        sys.argv[1:] = ["doctor"]
        from flipcall.cli import main
        main()
        """,
        missing,
    )
    assert "flipcall[cli]" in one_line_error(done, 2)


def test_library_does_not_need_the_extra() -> None:
    """Importing flipcall, and flipcall.cli itself, loads neither click nor rich."""
    done = run_python("import flipcall, flipcall.cli\nsay({'click', 'rich'} & set(sys.modules))")
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (errors.DeadlineExceeded("too late"), 1, "too late"),
        (errors.ClosedError(), 1, "ClosedError"),
        (errors.CallError(Status.NOT_FOUND, "no\nsuch"), 1, "NOT_FOUND: no; such"),
        (FileNotFoundError(2, "No such file or directory", "x"), 1, "x: No such file or directory"),
        (click.UsageError("which?"), 2, "which?"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (AssertionError("mine"), 70, "internal error, please report it: AssertionError: mine"),
    ],
)
def test_exceptions_become_lines(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    line: str,
) -> None:
    """Whatever a command raises is one line on stderr and an exit status that tells what kind it was."""

    def raising(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(app.commands, "main", raising)
    assert app.run([]) == status
    assert capsys.readouterr() == ("", f"flipcall: {line}\n")


def test_ctrl_c_exits_130(shop: tuple[str, Child]) -> None:
    """Ctrl-C during a call that does not return ends the command at once: one line, status 130."""
    path, _ = shop
    program = [str(Path(sys.executable).parent / "flipcall"), "call", path, "sleep", "[5]"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: _is_mapped(process.pid), what="the command is connected")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "flipcall: interrupted\n")


def _is_mapped(pid: int) -> bool:
    return "/memfd:" in Path(f"/proc/{pid}/maps").read_text()


def test_closed_pipe_is_silent() -> None:
    """A reader that goes away (`flipcall doctor --json | true`) gives no noise on stderr."""
    program = str(Path(sys.executable).parent / "flipcall")
    reading, writing = os.pipe()
    os.close(reading)  # before the program starts: its first write fails
    try:
        done = subprocess.run([program, "doctor", "--json"], stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_one_line_defuses_what_a_peer_sent() -> None:
    """Control characters, escapes and direction overrides become visible text; lines become one."""
    assert one_line("a\n\n b\x1b[2J\x9b\u202ec\t") == "a; b\\x1b[2J\\x9b\\u202ec"
    assert printable("plain é") == "plain é"
    assert len(one_line("x" * 10_000)) < 3000
