"""A client is for any thread: few channels, many callers, and one that closes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import flipcall

from .deadlines import MARGIN, SHORT, Handler
from .services import Bulk, BulkServer, Desk

Jobs = dict[str, Callable[[], Any]]


def test_many_threads_with_bulk(serve: Callable[..., Any], connect: Callable[..., Bulk]) -> None:
    """Bulk bytes of several callers do not mix."""
    serve(BulkServer())
    bulk = connect(Bulk, max_channels=3)

    def ask(i: int) -> bool:
        data = bytes([i % 256]) * (i * 37 % 5000)
        return bulk.same(data) == data

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(ask, range(500)))


def test_one_handler_waits_for_another(jobs: Jobs, desk: Desk) -> None:
    """Calls of one client run at the same time: one may wait for what another brings."""
    arrived = threading.Event()
    jobs["first"] = lambda: arrived.wait(MARGIN)
    jobs["second"] = arrived.set
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(desk.run, "first")
        desk.run("second")
        assert first.result() is True


def test_waiting_for_a_channel_ends_at_the_deadline(jobs: Jobs, connect: Callable[..., Desk]) -> None:
    """When all channels are in use, the next caller waits no longer than its timeout."""
    desk = connect(Desk, max_channels=1)
    handler = Handler(jobs)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(desk.run, "wait")
        assert handler.entered.wait(MARGIN)
        begun = time.monotonic()
        with pytest.raises(flipcall.DeadlineExceeded, match="channels"):
            flipcall.with_options(desk, timeout=SHORT).add(1)
        assert SHORT <= time.monotonic() - begun < SHORT + MARGIN
        handler.go.set()
        assert first.result() == "late"
    assert desk.add(1) == 11


def test_a_caller_without_pause_does_not_keep_the_channel(jobs: Jobs, connect: Callable[..., Desk]) -> None:
    """Callers of one channel take turns: however many calls without pause, each gets about its share.

    Who begins may make thousands of calls before the interpreter lets another thread run at all.
    """
    desk = connect(Desk, max_channels=1)
    done = [0] * 4

    def hammer(i: int) -> None:
        while min(done) < 1000 and sum(done) < 50_000:
            desk.add(i)
            done[i] += 1

    with ThreadPoolExecutor(4) as threads:
        for hammering in [threads.submit(hammer, i) for i in range(4)]:
            hammering.result()
    assert min(done) >= 1000, done


def test_close_during_a_call(jobs: Jobs, connect: Callable[..., Desk]) -> None:
    """close() from another thread ends a call under way with ClosedError; the handler is told, and others fail."""
    desk = connect(Desk, max_channels=1)
    handler = Handler(jobs)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(desk.run, "wait")
        assert handler.entered.wait(MARGIN)
        desk.close()
        assert isinstance(call.exception(MARGIN), flipcall.ClosedError)
        assert handler.cancelled.wait(MARGIN)
        handler.go.set()
    with pytest.raises(flipcall.ClosedError):
        desk.add(1)
    desk.close()
