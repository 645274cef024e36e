"""What every peer is: something that serves, and something that calls.

The bench makes an address (and descriptors, where the peer talks through inherited ones), starts a process that
serves there, and calls from itself or from other processes. Contents and codecs are echo.py's, the same for all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

import msgspec

from bench.echo import CODECS, Codec, Content
from bench.placement import UnavailableError

Call = Callable[[Any], Any]  # the content, to the server and back


class Address(msgspec.Struct, frozen=True):
    """Where to serve or to call, and what.

    path: of a socket, or a name of one's own; fds: what a peer without names inherits, one a client.
    """

    transport: str
    path: str
    content: Content = "item"
    size: int = 4096  # bytes that a message may have
    policy: str = "balanced"  # flipcall's
    workers: int = 0  # processes that serve, flipcall's; 0: the one that was started
    fds: tuple[int, ...] = ()

    @property
    def codec(self) -> Codec:
        return CODECS[self.content]


class Life(Protocol):
    """A server process: when it begins, and when it must end."""

    def ready(self) -> None:
        """Tell the bench that calls will be answered."""

    def wait(self) -> None:
        """Return when it is time to end; for a server that has threads of its own."""

    def ended(self) -> Callable[[], bool]:
        """A cheap function that says whether it is time to end; for a server that loops."""
        ...


class Peer:
    """One way. The base is a peer that is reached by path and sleeps while nobody calls."""

    needs: str | None = None  # the module of the package it cannot do without
    polls = False  # its server takes a CPU even when nobody calls

    def require(self) -> None:
        """Raises UnavailableError, with the reason, where this peer cannot run."""
        if self.needs is None:
            return
        try:
            self.package()
        except ImportError as error:
            raise UnavailableError(f"needs {self.needs}: pip install 'flipcall[bench]' ({error})") from None

    def package(self) -> Any:
        """The module `needs`: imported late, for it takes its time, and untyped, for it may not be there."""
        assert self.needs is not None
        return importlib.import_module(self.needs)

    def ends(self, stack: ExitStack, clients: int, size: int) -> tuple[list[int], list[int]]:
        """Descriptors for the server, and one for each client; closed with `stack`."""
        return [], []

    def serve(self, address: Address, life: Life) -> None:
        """Be the server."""
        raise NotImplementedError

    def connect(self, address: Address) -> AbstractContextManager[Call]:
        """Be a client: what is entered is a call."""
        raise NotImplementedError
