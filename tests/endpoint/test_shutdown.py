"""The end of a connection by either side, at every moment: verb x moment x kind of window."""

from __future__ import annotations

import pytest

from flipcall import BusyError, ClosedError, MisuseError
from flipcall._core import ffi
from flipcall.lowlevel import Endpoint, State
from flipcall.testing import pair
from tests.endpoint.running import KINDS, POLICIES, WAITS, Running, check_over, make_pair, waiting

every_wait = pytest.mark.parametrize("verb", WAITS)
every_moment = pytest.mark.parametrize("moment", POLICIES)
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_wait
@every_moment
@every_kind
def test_shutdown_during_wait_local(verb: str, moment: str, kind: str) -> None:
    """shutdown() from another thread ends the wait with ClosedError."""
    with waiting(verb, kind, moment) as (mine, _, running):
        mine.shutdown()
        assert type(running.error()) is ClosedError
        check_over(mine)


@every_wait
@every_moment
@every_kind
def test_shutdown_during_wait_remote(verb: str, moment: str, kind: str) -> None:
    """The peer's shutdown() ends the wait with ClosedError."""
    with waiting(verb, kind, moment) as (mine, other, running):
        other.shutdown()
        assert type(running.error()) is ClosedError
        check_over(mine)


@every_wait
@every_moment
@every_kind
def test_close_during_wait_local(verb: str, moment: str, kind: str) -> None:
    """close() from another thread ends the wait, and returns only when the thread is out of the window."""
    with waiting(verb, kind, moment) as (mine, _, running):
        mine.close()
        assert type(running.error()) is ClosedError
        assert mine.state is State.CLOSED
        check_over(mine)


@every_wait
@every_moment
def test_close_during_wait_remote(verb: str, moment: str) -> None:
    """The peer's close() ends the wait, although the peer has no mapping any more."""
    with waiting(verb, "memfd", moment) as (mine, other, running):
        other.close()
        assert type(running.error()) is ClosedError
        check_over(mine)


@every_wait
@every_moment
def test_condemn_during_wait(verb: str, moment: str) -> None:
    """Who is told that the peer is gone stops waiting with PeerDiedError."""
    with waiting(verb, "memfd", moment) as (mine, _, running):
        mine.condemn()
        assert type(running.error()).__name__ == "PeerDiedError"
        check_over(mine)


@every_wait
@every_moment
def test_second_thread_is_busy(verb: str, moment: str) -> None:
    """Every verb of a second thread raises BusyError, or MisuseError for the order; the first's wait goes on."""
    with waiting(verb, "memfd", moment) as (mine, other, running):
        with pytest.raises(BusyError):
            mine.recv()
        with pytest.raises(BusyError):
            mine.send_recv(0)
        with pytest.raises(BusyError):
            mine.send_last(0)
        with pytest.raises(BusyError):
            mine.accept()
        with pytest.raises((BusyError, MisuseError)):
            mine.connect()
        assert mine.state is State.WAITING
        assert not mine.cancelled()
        other.shutdown()
        assert type(running.error()) is ClosedError


@pytest.mark.parametrize("how", ["shutdown", "close"])
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@every_kind
def test_end_before_connect(how: str, remote: bool, kind: str) -> None:
    """connect() and recv_first() on a connection that has ended raise ClosedError at once."""
    with make_pair(kind, connected=False) as both:
        for mine, other, verb in (
            (both.client, both.server, both.client.connect),
            (both.server, both.client, both.server.recv_first),
        ):
            getattr(other if remote else mine, how)()
            with pytest.raises(ClosedError):
                verb()
            check_over(mine)


@pytest.mark.parametrize("how", ["shutdown", "close"])
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@every_kind
def test_end_while_active(how: str, remote: bool, kind: str) -> None:
    """An active side learns the end when it gives control away, and again whatever it tries."""
    with make_pair(kind) as both:
        mine = both.client
        getattr(both.server if remote else mine, how)()
        for _ in range(2):
            with pytest.raises(ClosedError):
                mine.send_recv(1)
        for verb in (mine.recv, mine.connect, lambda: mine.send_last(0)):
            with pytest.raises(ClosedError):
                verb()
        check_over(mine)


@every_moment
@every_kind
def test_datagram_given_before_close_arrives(moment: str, kind: str) -> None:
    """send_last() and close() at once: the peer receives the datagram, then finds the end."""
    with make_pair(kind, moment) as both:
        both.client.data[:5] = b"adieu"
        both.client.send_last(5)
        both.client.close()
        assert both.server.recv() == 5
        assert bytes(both.server.data[:5]) == b"adieu"
        assert both.server.state is State.ACTIVE
        with pytest.raises(ClosedError):
            both.server.send_recv(0)
        check_over(both.server)


def test_retire_loses_no_answer() -> None:
    """A server that retires as soon as it has answered never costs a waiting client its answer."""
    for _ in range(300):
        with make_pair() as both:
            asking = Running(both.client.send_recv, 1)
            assert both.server.recv() == 1
            assert not both.server.retire()  # it is serving
            both.server.send_last(7)
            assert both.server.retire()
            assert asking.result() == 7


def test_close_from_many_threads() -> None:
    """Threads that close, shut down and use one endpoint at once all return, and none crashes."""
    for _ in range(50):
        with make_pair() as both:
            client = both.client
            threads = [Running(client.close) for _ in range(3)]
            threads += [Running(client.shutdown) for _ in range(2)]
            using = [Running(client.send_recv, 1), Running(client.connect), Running(client.cancelled)]
            for thread in threads:
                thread.result()
            for thread in using[:2]:
                assert isinstance(thread.error(), (ClosedError, BusyError, MisuseError))
            assert client.state is State.CLOSED


def test_memory_stays_while_core_is_held() -> None:
    """What core() gave keeps the window mapped over close(): a reader between two steps does not crash."""
    with make_pair() as both:
        both.client.data[:3] = b"abc"
        _, window = both.client.core()
        both.client.close()
        both.server.close()
        assert ffi.unpack(window + 16, 3) == b"abc"
        del window


def test_views_of_data_outlive_close() -> None:
    """A view of data that is still held neither breaks close() nor loses its memory."""
    with make_pair() as both:
        view = both.client.data[:3]
        view[:] = b"abc"
        both.client.close()
        assert bytes(view) == b"abc"
        view.release()


def test_close_goes_on_after_an_interrupted_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A close() that an exception ended half-way is finished by the next one, which does not hang."""
    both = pair()

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(both.client._window, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            both.client.close()
    both.close()
    assert both.client._window.closed


def test_shutdown_within_shutdown() -> None:
    """A signal handler that shuts down interrupts a shutdown of the same thread: nothing hangs."""
    with make_pair() as both, both.client._lock:
        both.client.shutdown()
        assert not both.client.retire() or both.client.cancelled()


def test_context_manager_closes() -> None:
    """`with endpoint` closes it, also when the block raises."""
    with make_pair(connected=False) as both:
        endpoint: Endpoint = both.client
        with pytest.raises(ZeroDivisionError), endpoint:
            _ = 1 / 0
        assert endpoint.state is State.CLOSED
        endpoint.close()


def test_shutdown_while_connect_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """connect() that finds itself shut down by another thread, after it has looked, says so: that is no misuse."""
    with make_pair(connected=False) as both:
        usable = both.client._usable

        def usable_then_shut_down() -> None:
            usable()
            both.client.shutdown()

        monkeypatch.setattr(both.client, "_usable", usable_then_shut_down)
        with pytest.raises(ClosedError):
            both.client.connect()
