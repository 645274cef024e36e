"""The door for tests: a connected pair in one process, waiting for a side to sleep, and faults put in by hand.

Nothing here is needed to use flipcall; all of it works on windows and endpoints of any origin. The tests that
every way to call a service must pass are in flipcall.conformance.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal, TypeVar

from . import inprocess
from ._core import ffi, lib
from .allocator import MemfdAllocator
from .endpoint import Endpoint
from .interceptor import ClientInterceptor, ServerInterceptor
from .liveness import Liveness, Peer
from .named import NamedAllocator, NamedWindow
from .options import checked
from .outcome import Side
from .policy import WaitPolicy
from .service import Service
from .window import PacketWindow

__all__ = ["Pair", "local", "pair", "read_word", "until_parked", "windows", "write_word"]

S = TypeVar("S", bound=Service)
Word = Literal["conn_state", "data_len", "sleepers", "cancel"]

_LOOK_EVERY_S = 0.0005
_BITS = {Side.CLIENT: lib.FC_SLEEPS_CLIENT, Side.SERVER: lib.FC_SLEEPS_SERVER}


@checked()
def local(
    implementation: S | Callable[[Peer], S],
    *,
    timeout: float | None = 30.0,
    max_channels: int = 8,
    tracebacks: bool = False,
    interceptors: Sequence[ClientInterceptor] = (),
    server_interceptors: Sequence[ServerInterceptor] = (),
) -> S:
    """A client of a service in this process: no socket, but the same codec and dispatch. A context manager.

    What the service answers and raises arrives as it would elsewhere: encoded, decoded, types checked. A plain
    call runs in the caller's thread, and its deadline is found to have passed when the handler returns; a
    streaming one's handler has its own thread. implementation, timeout, max_channels, tracebacks, interceptors:
    as for Server and connect(). Raises MisuseError for what cannot be served.
    """
    client: S = inprocess.local(
        implementation,
        timeout=timeout,
        max_channels=max_channels,
        tracebacks=tracebacks,
        interceptors=interceptors,
        server_interceptors=server_interceptors,
    )
    return client


class Pair:
    """Both endpoints of one window, in this process. Owns them; a context manager."""

    def __init__(self, client: Endpoint, server: Endpoint) -> None:
        self.client = client
        self.server = server

    def close(self) -> None:
        """Close both. Idempotent."""
        self.client.close()
        self.server.close()

    def __enter__(self) -> "Pair":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def windows(length: int = lib.FC_WINDOW_MIN, *, name: str | None = None) -> tuple[PacketWindow, PacketWindow]:
    """The same memory twice, mapped as two processes would: for the side that made it, and for the other.

    A memfd; with `name`, a named window, whose name is gone when this returns.
    """
    if name is None:
        mine = MemfdAllocator().allocate(length)
        try:
            return mine, PacketWindow.attach(os.dup(mine.fd), mine.length)
        except BaseException:
            mine.close()
            raise
    allocator = NamedAllocator(name)
    made = allocator.allocate(length)
    try:
        return made, NamedWindow.open(name)
    except BaseException:
        made.close()
        raise
    finally:
        allocator.close()


def pair(
    *,
    length: int = lib.FC_WINDOW_MIN,
    name: str | None = None,
    policy: WaitPolicy | None = None,
    server_policy: WaitPolicy | None = None,
    client_peer: Liveness | None = None,
    server_peer: Liveness | None = None,
    connected: bool = True,
) -> Pair:
    """A client and a server endpoint over one new window, connected unless asked not to be.

    length, name: see windows(). policy: of the client, and of the server unless `server_policy` is given.
    client_peer: what the client watches; server_peer: what the server does. Connected, the client is ACTIVE and
    the server WAITING: it goes on with recv().
    """
    one, other = windows(length, name=name)
    client = Endpoint(one, Side.CLIENT, policy=policy, peer=client_peer)
    try:
        server = Endpoint(other, Side.SERVER, policy=server_policy or policy, peer=server_peer)
    except BaseException:
        client.close()
        raise
    made = Pair(client, server)
    try:
        if connected:
            _connect(made)
    except BaseException:
        made.close()
        raise
    return made


def _connect(made: Pair) -> None:
    failures: list[BaseException] = []

    def accept() -> None:
        try:
            made.server.accept()
        except BaseException as e:
            failures.append(e)

    thread = threading.Thread(target=accept, name="flipcall-testing-accept", daemon=True)
    thread.start()
    try:
        made.client.connect()
    except BaseException:
        made.server.shutdown()
        raise
    finally:
        thread.join()
    if failures:
        raise failures[0]


def read_word(where: Endpoint | PacketWindow, word: Word) -> int:
    """A word of the packet header, as it is now."""
    with ffi.from_buffer("struct fc_packet *", _window(where).buffer) as packet:
        return int(getattr(packet, word))


def write_word(where: Endpoint | PacketWindow, word: Word, value: int, *, wake: bool = True) -> None:
    """Write a word of the packet header, as a peer that keeps to no rules would.

    wake: and wake whoever sleeps on conn_state, so that the fault is found now and not a slice later.
    """
    with ffi.from_buffer("struct fc_packet *", _window(where).buffer) as packet:
        setattr(packet, word, value)
        if wake:
            lib.fc_futex_wake(ffi.cast("void *", packet), 2**31 - 1)


def until_parked(where: Endpoint | PacketWindow, side: Side, timeout: float = 20.0) -> None:
    """Return when `side` of this window sleeps in the kernel, or is just about to: its sleepers bit is set.

    Only for a side that keeps its bit, as every flipcall endpoint does. Raises TimeoutError after `timeout` s.
    """
    end = time.monotonic() + timeout
    while not read_word(where, "sleepers") & _BITS[side]:
        if time.monotonic() > end:
            raise TimeoutError(f"the {side.name.lower()} of {where!r} did not sleep within {timeout} s")
        time.sleep(_LOOK_EVERY_S)


def _window(where: Endpoint | PacketWindow) -> PacketWindow:
    return where._window if isinstance(where, Endpoint) else where
