"""Wrong orders, wrong numbers, forks and deadlines: each a clear error, and the rest goes on."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable

import pytest

from flipcall import ClosedError, DeadlineExceeded, ForkedError, MisuseError
from flipcall.errors import WindowInUseError
from flipcall.lowlevel import Endpoint, Liveness, MemfdAllocator, PacketWindow, Side, State, WaitPolicy
from flipcall.testing import pair, until_parked, windows
from tests.endpoint.running import KINDS, POLICIES, Running, make_pair, waiting


def in_fork(body: Callable[[], object]) -> int:
    """Run `body` in a forked child; 0 unless it raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_misuse_orders() -> None:
    """Every verb in a state it is not for raises MisuseError and changes nothing."""
    with make_pair(connected=False) as both:
        client, server = both.client, both.server
        for verb in (client.recv, client.recv_first, client.accept, server.connect, server.recv):
            with pytest.raises(MisuseError):
                verb()
        for end in (client, server):
            for send in (end.send_recv, end.send_last):
                with pytest.raises(MisuseError):
                    send(0)
            assert end.state is State.NEW
        accepting = Running(server.accept)
        client.connect()
        accepting.result()
        for verb in (client.connect, client.accept, client.recv, server.accept, server.connect):
            with pytest.raises(MisuseError):
                verb()
        with pytest.raises(MisuseError):
            server.send_recv(0)
        assert (client.state, server.state) == (State.ACTIVE, State.WAITING)
        client.send_last(2)
        assert client.state is State.LAST
        for again in (client.send_recv, client.send_last):
            with pytest.raises(MisuseError):
                again(0)
        assert server.recv() == 2


@pytest.mark.parametrize("n", [4081, 2**31, 2**32, 2**32 + 1, 2**70, -1])
def test_lengths_beyond_the_window(n: int) -> None:
    """A length that does not fit, however large or negative, is MisuseError, and nothing was sent."""
    with make_pair() as both:
        with pytest.raises(MisuseError):
            both.client.send_recv(n)
        with pytest.raises(MisuseError):
            both.client.send_last(n)
        assert both.client.state is State.ACTIVE
        both.client.send_last(4080)
        assert both.server.recv() == 4080


@pytest.mark.parametrize("deadline", [-(2**63), -1, 0, 1])
def test_deadline_in_the_past(deadline: int) -> None:
    """A deadline of long ago, even a negative one, is DeadlineExceeded at once, and the wait can go on."""
    with make_pair() as both:
        with pytest.raises(DeadlineExceeded):
            both.client.send_recv(5, deadline_ns=deadline)
        assert both.client.state is State.WAITING
        with pytest.raises(TimeoutError):
            both.client.recv(deadline_ns=deadline)
        assert both.server.recv() == 5
        both.server.send_last(6)
        assert both.client.recv() == 6


@pytest.mark.parametrize("moment", POLICIES)
@pytest.mark.parametrize("verb", ["connect", "recv_first", "send_recv", "recv"])
def test_deadline_during_wait(verb: str, moment: str) -> None:
    """The deadline ends each wait, not early and not late; connecting is over then, other waits can go on."""
    with make_pair(moment=moment, connected=verb in ("send_recv", "recv")) as both:
        mine = both.server if verb.startswith("recv") else both.client
        deadline = time.monotonic_ns() + 80_000_000
        with pytest.raises(DeadlineExceeded):
            getattr(mine, verb)(*([1] if verb == "send_recv" else []), deadline_ns=deadline)
        assert 0 <= time.monotonic_ns() - deadline < 1_000_000_000
        assert mine.state is (State.WAITING if verb in ("send_recv", "recv") else State.OVER)


def test_recv_first_deadline_in_its_second_half() -> None:
    """Connected, but without a first datagram: DeadlineExceeded leaves the connection as it is."""
    with make_pair(connected=False) as both:
        server = Running(both.server.recv_first, deadline_ns=time.monotonic_ns() + 300_000_000)
        both.client.connect()
        assert isinstance(server.error(), DeadlineExceeded)
        assert both.server.state is State.WAITING
        both.client.send_last(3)
        assert both.server.recv() == 3


def test_window_is_connected_once() -> None:
    """A second client on a window that had one is WindowInUseError, and the first connection goes on."""
    with make_pair() as both:
        third = PacketWindow.attach(os.dup(both.client._window.fd), 4096)
        with Endpoint(third, Side.CLIENT) as late:
            with pytest.raises(WindowInUseError):
                late.connect()
            both.client.send_last(1)
            assert both.server.recv() == 1
            with pytest.raises(WindowInUseError):
                late.connect()
            assert both.server.state is State.ACTIVE


def test_endpoint_over_a_window_that_has_one() -> None:
    """Two endpoints over one PacketWindow: MisuseError, and the first is not disturbed."""
    with make_pair() as both:
        with pytest.raises(MisuseError, match="another endpoint"):
            Endpoint(both.client._window, Side.SERVER)
        both.client.send_last(1)
        assert both.server.recv() == 1


def test_constructor_gives_back_what_it_was_given() -> None:
    """When making an endpoint fails, its window and its Liveness are closed: nothing is left behind."""
    for options in ({"switch": "no such switch"}, {"side": 7}):
        window = MemfdAllocator().allocate(4096)
        life = Liveness(os.getpid())
        with pytest.raises(ValueError):  # noqa: PT011
            Endpoint(window, **{"side": Side.CLIENT, "peer": life, **options})
        assert window.closed
        assert life.pidfd == -1
    window = MemfdAllocator().allocate(4096)
    window.close()
    with pytest.raises(ClosedError):
        Endpoint(window, Side.CLIENT)


@pytest.mark.parametrize("kind", KINDS)
def test_forked_child(kind: str) -> None:
    """In a forked child every verb raises ForkedError, nothing hangs, and the parent's connection goes on."""
    with make_pair(kind) as both, make_pair(kind, connected=False) as fresh:

        def body() -> None:
            for verb in (
                both.server.recv,
                fresh.client.connect,
                fresh.server.recv_first,
                fresh.server.accept,
            ):
                with pytest.raises(ForkedError):
                    verb()
            for send in (both.client.send_recv, both.client.send_last):
                with pytest.raises(ForkedError):
                    send(0)
            both.client.shutdown()
            both.client.condemn()
            assert not both.server.retire()
            assert "ACTIVE" in repr(both.client)
            for endpoint in (both.client, both.server, fresh.client, fresh.server):
                endpoint.close()
                endpoint.close()

        before = bytes(fresh.client.data)
        assert in_fork(body) == 0
        assert bytes(fresh.client.data) == before
        both.client.send_last(5)
        assert both.server.recv() == 5


@pytest.mark.parametrize("moment", POLICIES)
def test_fork_while_a_thread_waits(moment: str) -> None:
    """A thread that is inside, and a thread that holds the lock, stay in the parent: the child can close."""
    with waiting("recv", "memfd", moment) as (mine, _, running), mine._lock:
        locked = Running(mine.shutdown)  # stands before the lock

        def body() -> None:
            with pytest.raises(ForkedError):
                mine.recv()
            mine.shutdown()
            mine.cancelled()
            mine.close()

        assert in_fork(body) == 0
        assert mine.state is State.WAITING
    locked.result()
    assert type(running.error()) is ClosedError


def test_child_may_connect_anew() -> None:
    """What a forked child makes for itself works, spinning included."""

    def body() -> None:
        with pair(policy=WaitPolicy.latency()) as own:
            own.client.send_last(2)
            assert own.server.recv() == 2

    with waiting("recv", "memfd", "spinning"):
        assert in_fork(body) == 0


def test_until_parked_is_bounded() -> None:
    """The testing door does not wait for ever for a side that does not sleep."""
    one, other = windows()
    with one, other, pytest.raises(TimeoutError, match="server"):
        until_parked(one, Side.SERVER, timeout=0.01)
