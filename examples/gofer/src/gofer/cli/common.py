"""What the client commands have in common: options, the connection, and failures as coreutils print them."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click

import flipcall
from gofer import names, quoting
from gofer.client import GoferClient, Transport

F = TypeVar("F", bound=Callable[..., Any])


class Failures:
    """What went wrong so far: a command goes on with its next argument and exits with this in the end."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.status = 0

    def report(self, what: str, error: OSError, status: int = 1) -> None:
        """`ls: cannot access 'x': No such file or directory`."""
        self.say(f"{what}: {error.strerror or error}", status)

    def say(self, message: str, status: int = 1) -> None:
        """`rm: cannot remove 'x': Is a directory`: what no errno says."""
        with writing():
            sys.stdout.flush()  # in the order it happened, where both go to one place
        print(f"{self.command}: {message}", file=sys.stderr)
        self.status = max(self.status, status)


class WriteError(Exception):
    """Standard output takes no more."""

    def __init__(self, error: OSError) -> None:
        self.error = error


@contextmanager
def writing() -> Iterator[None]:
    """What fails in the block has standard output for its reason, and ends the command."""
    try:
        yield
    except OSError as error:
        raise WriteError(error) from error


def put(line: str) -> None:
    """A line on standard output."""
    with writing():
        print(line)


def quoted(path: str | bytes) -> str:
    """A path in an error message."""
    return quoting.quote(names.encode(path))


def is_directory(client: GoferClient, path: str | bytes) -> bool:
    """Whether a path leads to a directory."""
    try:
        return stat.S_ISDIR(client.stat(path).mode)
    except OSError:
        return False


def say_no_directory(failures: Failures, target: str, look: Callable[[], object]) -> None:
    """Why several things cannot go to `target`, which `look` looks at."""
    try:
        look()
    except OSError as error:
        failures.report(f"target {quoted(target)}", error)
    else:
        failures.say(f"target {quoted(target)}: Not a directory")


def on_gofer(function: F) -> F:
    """The options of every client command."""
    transport = click.option(
        "--transport",
        type=click.Choice(["window", "socket"]),
        default="window",
        show_default=True,
        help="How calls travel: a packet window in shared memory, or the socket itself.",
    )
    path = click.option("--socket", "socket_path", required=True, metavar="PATH", help="The gofer's socket.")
    return path(transport(function))


@contextmanager
def connected(
    command: str, socket_path: str, transport: Transport, write_error: int = 1
) -> Iterator[tuple[GoferClient, Failures]]:
    """A client for one command, which exits with the command's status, `write_error` when its output goes
    nowhere; a broken connection ends it in one line. Ctrl-C and a closed pipe end it as they end coreutils: a
    shell's loop around it ends, too.
    """
    failures = Failures(command)
    try:
        with GoferClient(socket_path, transport=transport) as client:
            yield client, failures
            with writing():
                sys.stdout.flush()
    except KeyboardInterrupt:
        _die_of(signal.SIGINT)
    except WriteError as failed:
        if isinstance(failed.error, BrokenPipeError):
            _die_of(signal.SIGPIPE)
        print(f"{command}: write error: {failed.error.strerror}", file=sys.stderr)
        os._exit(write_error)  # a usual end would try once more to write what is left
    except (flipcall.FlipcallError, OSError) as error:
        print(f"gofer: {socket_path}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(failures.status)


def _die_of(signum: signal.Signals) -> NoReturn:
    signal.signal(signum, signal.SIG_DFL)
    signal.raise_signal(signum)
    raise AssertionError("unreachable: the signal is not blocked")
