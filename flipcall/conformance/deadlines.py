"""Deadlines: the caller gets away on time, the handler is told, and the late answer is nobody's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import flipcall

from .services import Desk
from .waiting import wait_until

Jobs = dict[str, Callable[[], Any]]
SHORT = 0.1  # seconds; wide margins above it: what is asserted is that a caller does not wait for the handler
MARGIN = 2.0


class Handler:
    """A job that runs until it is let go, and says what its context told meanwhile."""

    def __init__(self, jobs: Jobs, name: str = "wait", result: Any = "late") -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.cancelled = threading.Event()
        self.left = threading.Event()
        self.result = result
        jobs[name] = self

    def __call__(self) -> Any:
        context = flipcall.context()
        self.entered.set()
        while not self.go.wait(0.001):
            if context.cancelled:
                self.cancelled.set()
        self.left.set()
        return self.result


@pytest.fixture
def handler(jobs: Jobs) -> Any:
    """See Handler; let go at the end whatever happened."""
    handler = Handler(jobs)
    yield handler
    handler.go.set()


def test_the_caller_gets_away_on_time(desk: Desk, handler: Handler) -> None:
    """The call raises DeadlineExceeded, also a TimeoutError, at its deadline and not when the handler ends."""
    begun = time.monotonic()
    with pytest.raises(TimeoutError) as info:
        flipcall.with_options(desk, timeout=SHORT).run("wait")
    took = time.monotonic() - begun
    assert isinstance(info.value, flipcall.DeadlineExceeded)
    assert SHORT <= took < SHORT + MARGIN
    assert not handler.left.is_set()


def test_the_handler_sees_it(desk: Desk, handler: Handler) -> None:
    """context().cancelled becomes true in the handler nobody waits for."""
    with pytest.raises(flipcall.DeadlineExceeded):
        flipcall.with_options(desk, timeout=SHORT).run("wait")
    assert handler.cancelled.wait(MARGIN)


def test_the_late_answer_is_not_the_next_calls(
    jobs: Jobs, connect: Callable[..., Desk], handler: Handler
) -> None:
    """With one channel only: once the handler lets go, the channel is used again, for the right answer."""
    desk = connect(Desk, max_channels=1)
    for _ in range(3):
        with pytest.raises(flipcall.DeadlineExceeded):
            flipcall.with_options(desk, timeout=SHORT).run("wait")
        with pytest.raises(flipcall.DeadlineExceeded, match="channels"):
            flipcall.with_options(desk, timeout=0.02).add(1)
        handler.go.set()
        assert desk.add(1) == 11
        handler.go.clear()


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_no_channel_in_time(
    jobs: Jobs, connect: Callable[..., Desk], handler: Handler, timeout: float
) -> None:
    """The caller is told how many there are and may be, and that a call that was given up has one, if so."""
    desk = connect(Desk, max_channels=1)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(desk.run, "wait")
        assert handler.entered.wait(MARGIN)
        with pytest.raises(flipcall.DeadlineExceeded) as info:
            flipcall.with_options(desk, timeout=timeout).add(1)
        assert str(info.value) == "no channel was free in time: 1 of at most 1 (max_channels) are in use"
        handler.go.set()
        assert call.result(MARGIN) == "late"
    handler.go.clear()
    with pytest.raises(flipcall.DeadlineExceeded):
        flipcall.with_options(desk, timeout=SHORT).run("wait")
    with pytest.raises(
        flipcall.DeadlineExceeded, match=r"1 of them by handlers of calls that were given up$"
    ):
        flipcall.with_options(desk, timeout=timeout).add(1)


def test_other_channels_go_on(desk: Desk, handler: Handler) -> None:
    """While a late handler keeps its channel, other calls have others."""
    with pytest.raises(flipcall.DeadlineExceeded):
        flipcall.with_options(desk, timeout=SHORT).run("wait")
    assert [desk.add(i) for i in range(5)] == [10, 11, 12, 13, 14]
    assert not handler.left.is_set()


def test_the_deadline_reaches_the_handler(desk: Desk) -> None:
    """remaining() is about the caller's timeout; None when it waits for ever, 71 minutes at most."""
    left = flipcall.with_options(desk, timeout=50.0).remaining()
    assert left is not None
    assert 40.0 < left <= 50.0
    assert flipcall.with_options(desk, timeout=None).remaining() is None
    days = flipcall.with_options(desk, timeout=1e9).remaining()
    assert days is not None
    assert 4000.0 < days < 4300.0


def test_no_timeout_waits(desk: Desk, handler: Handler) -> None:
    """Without a timeout the caller waits until the answer comes."""
    results: list[Any] = []
    thread = threading.Thread(
        target=lambda: results.append(flipcall.with_options(desk, timeout=None).run("wait"))
    )
    thread.start()
    assert handler.entered.wait(MARGIN)
    handler.go.set()
    thread.join(MARGIN)
    assert results == ["late"]


def test_a_timeout_of_nothing(desk: Desk) -> None:
    """A timeout of 0 is a deadline that has passed, or an answer that was quicker; nothing breaks."""
    for _ in range(20):
        try:
            assert flipcall.with_options(desk, timeout=0).add(1) == 11
        except flipcall.DeadlineExceeded:
            pass
    assert desk.add(1) == 11


def test_options_are_for_clients(desk: Desk) -> None:
    """with_options takes what connect() made, again and again."""
    again = flipcall.with_options(flipcall.with_options(desk, timeout=1.0), timeout=5.0)
    assert again.add(1) == 11
    with pytest.raises(flipcall.MisuseError):
        flipcall.with_options(object(), timeout=1.0)  # type: ignore[type-var]


def test_waiting_for_a_channel_is_part_of_the_timeout(
    jobs: Jobs, connect: Callable[..., Desk], handler: Handler
) -> None:
    """A caller that gets its channel late has what is left of its timeout, not all of it again."""
    desk = connect(Desk, max_channels=1)
    jobs["slow"] = lambda: flipcall.context().remaining()
    first = threading.Thread(target=desk.run, args=("wait",))
    first.start()
    assert handler.entered.wait(MARGIN)
    threading.Timer(0.3, handler.go.set).start()
    left = flipcall.with_options(desk, timeout=10.0).run("slow")
    first.join()
    assert left <= 9.8


def test_a_handler_that_watches_its_deadline(desk: Desk, jobs: Jobs) -> None:
    """A handler may end a call early by its own deadline: the caller gets DEADLINE_EXCEEDED either way."""

    def obedient() -> Any:
        context = flipcall.context()
        wait_until(lambda: context.cancelled)
        raise flipcall.DeadlineExceeded("gave up")

    jobs["obedient"] = obedient
    with pytest.raises(flipcall.DeadlineExceeded):
        flipcall.with_options(desk, timeout=SHORT).run("obedient")
    assert desk.add(1) == 11
