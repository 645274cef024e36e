"""What the client commands have in common: options, the connection, and failures as coreutils print them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

import flipcall
from gofer import names
from gofer.client import GoferClient, Transport

F = TypeVar("F", bound=Callable[..., Any])


class Failures:
    """What went wrong so far: a command goes on with its next argument and exits with this in the end."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.status = 0

    def report(self, what: str, error: OSError, status: int = 1) -> None:
        """`ls: cannot access 'x': No such file or directory`."""
        reason = error.strerror or str(error)
        print(f"{self.command}: {what}: {reason}", file=sys.stderr)
        self.status = max(self.status, status)

    def say(self, message: str) -> None:
        """`rm: cannot remove 'x': Is a directory`: what no errno says."""
        print(f"{self.command}: {message}", file=sys.stderr)
        self.status = max(self.status, 1)


def quoted(path: str) -> str:
    """A path in an error message."""
    return f"'{names.show(names.encode(path))}'"


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
def connected(command: str, socket_path: str, transport: Transport) -> Iterator[tuple[GoferClient, Failures]]:
    """A client for one command, which exits with the command's status; a broken connection ends it in one
    line.
    """
    failures = Failures(command)
    try:
        with GoferClient(socket_path, transport=transport) as client:
            yield client, failures
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # `gofer ls | head`: nothing more to say
        sys.exit(1)
    except (flipcall.FlipcallError, OSError) as error:
        print(f"gofer: {socket_path}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(failures.status)
