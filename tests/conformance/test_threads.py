"""A client is for any thread: few channels, many callers, and one that closes."""

# ruff: noqa: F403
from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

import flipcall
from flipcall.conformance.deadlines import MARGIN, SHORT, Handler
from flipcall.conformance.services import Desk
from flipcall.conformance.threads import *
from tests.support import wait_until

Jobs = dict[str, Callable[[], Any]]


def pool_of(client: Any) -> Any:
    """The client's pool."""
    return client._flipcall.pool


def test_many_threads_over_few_channels(jobs: Jobs, connect: Callable[..., Desk]) -> None:
    """Every caller gets the answer to its own question, and no more channels are made than allowed."""
    desk = connect(Desk, max_channels=2)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda i: desk.add(i, i), range(2000)))
    assert answers == [2 * i for i in range(2000)]
    assert len(pool_of(desk).channels()) <= 2


def test_a_waiting_caller_is_woken(jobs: Jobs, connect: Callable[..., Desk]) -> None:
    """A caller that waits for a channel gets it when it is given back, whatever the call came to."""
    desk = connect(Desk, max_channels=1)
    for result in ("late", object()):  # an answer, and one that cannot be sent
        handler = Handler(jobs, result=result)
        with ThreadPoolExecutor(5) as threads:
            first = threads.submit(desk.run, "wait")
            assert handler.entered.wait(MARGIN)
            others = [threads.submit(desk.add, i) for i in range(4)]
            wait_until(lambda: len(pool_of(desk).waiters) == 4)
            handler.go.set()
            assert [f.result() for f in others] == [10, 11, 12, 13]
            assert (first.exception() is None) == (result == "late")


def test_callers_are_served_in_the_order_they_came(jobs: Jobs, connect: Callable[..., Desk]) -> None:
    """The first to wait for a channel is the first to get it; one whose deadline passes leaves the line."""
    desk = connect(Desk, max_channels=1)
    handler = Handler(jobs)
    order: list[int] = []
    jobs["who0"], jobs["who1"], jobs["who2"] = (lambda i=i: order.append(i) for i in range(3))  # type: ignore[misc]
    waiters = pool_of(desk).waiters
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(desk.run, "wait")
        assert handler.entered.wait(MARGIN)
        asking = []
        for i in range(3):
            asking.append(threads.submit(desk.run, f"who{i}"))
            wait_until(lambda i=i: len(waiters) == i + 1)  # type: ignore[misc]
        with pytest.raises(flipcall.DeadlineExceeded):
            flipcall.with_options(desk, timeout=SHORT).add(1)
        assert len(waiters) == 3
        handler.go.set()
        assert [first.result(), *(a.result() for a in asking)] == ["late", None, None, None]
    assert order == [0, 1, 2]
    assert not waiters


def test_close_while_another_waits_for_the_channel(jobs: Jobs, connect: Callable[..., Desk]) -> None:
    """close() from another thread ends a wait for a channel, as it ends the call under way, with ClosedError."""
    desk = connect(Desk, max_channels=1)
    handler = Handler(jobs)
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(desk.run, "wait")]
        assert handler.entered.wait(MARGIN)
        calls.append(threads.submit(desk.add, 1))
        wait_until(lambda: pool_of(desk).waiters)
        desk.close()
        for call in calls:
            assert isinstance(call.exception(MARGIN), flipcall.ClosedError)
        handler.go.set()


def test_close_while_calls_are_answered(jobs: Jobs, connect: Callable[..., Desk]) -> None:
    """close() at any moment of quick calls ends them with an answer or ClosedError, and never this process."""
    for _ in range(30):
        desk = connect(Desk, max_channels=2)
        begun = threading.Barrier(3)

        def hammer(desk: Desk = desk, begun: threading.Barrier = begun) -> int:
            begun.wait()
            for n in range(100_000):
                try:
                    assert desk.add(n) == n + 10
                except flipcall.ClosedError:
                    return n
            return -1

        with ThreadPoolExecutor(2) as threads:
            running = [threads.submit(hammer) for _ in range(2)]
            begun.wait()
            wait_until(partial(lambda pool: len(pool.channels()) == 2, pool_of(desk)))
            desk.close()
            assert all(f.result() >= 0 for f in running)


def test_lost_channels_are_found(jobs: Jobs, connect: Callable[..., Desk], kind: str) -> None:
    """A channel that an interrupt has taken from its caller's hands is collected, and does not count for ever."""
    if "loop client" in kind:
        pytest.skip("in a loop a signal handler raises between steps: no channel is lost")
    desk = connect(Desk, max_channels=1)
    pool_of(desk).take(1.0)  # and nothing is given back
    gc.collect()
    assert desk.add(1) == 11
    assert len(pool_of(desk).channels()) == 1


def test_a_client_that_is_dropped(
    jobs: Jobs, connect: Callable[..., Desk], path: str, transport: str
) -> None:
    """A client nobody closed gives everything back when it is collected (the fixture looks after it)."""
    desk = flipcall.connect(Desk, path, transport=transport)  # type: ignore[arg-type]
    assert desk.add(1) == 11
    del desk
    gc.collect()


def test_an_interrupt_in_a_call_keeps_later_calls_right(
    jobs: Jobs, connect: Callable[..., Desk], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception out of the middle of a call (as a signal handler may raise) never mixes up answers."""
    if "loop client" in kind:
        pytest.skip("in a loop a signal handler raises between steps, not in a call: Ctrl-C cancels the task")
    desk = connect(Desk, max_channels=1)
    from flipcall import channel, stream

    receive = stream.FrameSocket.receive

    def interrupted(self: Any, *args: Any) -> Any:
        if isinstance(self, stream.FrameSocket) and args[0] is None:
            return receive(self, *args)  # the server's
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(channel.WindowChannel, "settle", interrupted)
        patch.setattr(stream.FrameSocket, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            desk.run("nothing of that name")
    assert [desk.add(i) for i in range(3)] == [10, 11, 12]
