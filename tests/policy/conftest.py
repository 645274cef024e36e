"""Two endpoints in this process, each on its own thread, under policies of the test's choice."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from flipcall.errors import ClosedError
from flipcall.lowlevel import Endpoint, MemfdAllocator, PacketWindow, Side, WaitPolicy

WINDOW = 4096


class Pair:
    """A connected client, used by the test's thread, and a server that answers every datagram on a thread."""

    def __init__(self, client: WaitPolicy, server: WaitPolicy) -> None:
        window = MemfdAllocator().allocate(WINDOW)
        other = PacketWindow.attach(os.dup(window.fd), window.length)
        self.client = Endpoint(window, Side.CLIENT, policy=client)
        self.server = Endpoint(other, Side.SERVER, policy=server)
        self._thread = threading.Thread(target=self._serve, name="answers")
        self._thread.start()
        self.client.connect()

    def _serve(self) -> None:
        try:
            self.server.recv_first()
            while True:
                self.server.send_recv(0)
        except ClosedError:
            pass
        finally:
            self.server.close()

    @property
    def server_tid(self) -> int:
        """The kernel's id of the server's thread."""
        assert self._thread.native_id is not None
        return self._thread.native_id

    def call(self, times: int = 1) -> None:
        """So many empty datagrams there and back."""
        for _ in range(times):
            self.client.send_recv(0)

    def close(self) -> None:
        """Both sides, and the server's thread."""
        self.client.close()
        self._thread.join()


@pytest.fixture
def pair() -> Iterator[Callable[[WaitPolicy, WaitPolicy], Pair]]:
    """Make pairs; they are closed at the end of the test."""
    with ExitStack() as stack:

        def make(client: WaitPolicy, server: WaitPolicy) -> Pair:
            made = Pair(client, server)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def cpus() -> Iterator[frozenset[int]]:
    """The CPUs of the test's thread, two at least or the test is skipped; it has the same again at the end."""
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("needs two CPUs")
    yield frozenset(before)
    after = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before)
    assert after == before, "the test's thread did not get its CPUs back"
