"""Statistics: what is counted is what happened."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipcall._core import lib
from flipcall.meter import BUCKETS, Counts, bucket_start_ns, quantile_us
from flipcall.stats import Statistics
from tests.builtin.conftest import Desk, DeskServer
from tests.support import wait_until


def test_methods_are_counted(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """Calls, errors, bytes and times, of channels that are there and that were; never called is not told."""
    serve(DeskServer())
    statistics = connect(Statistics)
    for n in (3, 4):
        client = connect(Desk)
        for i in range(n):
            assert client.add(i) == i + 2
        with pytest.raises(ValueError, match="no"):
            client.fail()
        client.close()
    last = connect(Desk)
    last.add(1)
    wait_until(lambda: len(statistics.read().channels) == 1)
    told = statistics.read()
    methods = {m.name: m for m in told.methods}
    assert {n: (m.counts.calls, m.counts.errors) for n, m in methods.items()} == {
        "add": (8, 0),
        "fail": (2, 2),
    }
    add = methods["add"]
    assert add.counts.bytes_in == 8 * (16 + 2)
    assert add.counts.bytes_out == 8 * (16 + 1)
    assert sum(add.counts.buckets) == 8
    assert add.p50_us is not None
    assert add.p99_us is not None
    assert 0 < add.p50_us <= add.p99_us
    assert (told.pid, told.service) == (os.getpid(), "Desk")
    (channel,) = told.channels
    assert (channel.pid, channel.calls) == (os.getpid(), 1)


def test_what_a_channel_does(serve: Callable[..., Any], connect: Callable[..., Any], transport: str) -> None:
    """A channel is serving while its handler runs, and parked when nobody has asked for a while."""
    desk = DeskServer()
    serve(desk)
    statistics, client = connect(Statistics), connect(Desk)
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(client.hold)
        desk.entered.acquire()
        assert [c.doing for c in statistics.read().channels] == ["serving"]
        desk.go_on.set()
        held.result(20)
    wait_until(lambda: [c.doing for c in statistics.read().channels] == ["parked"])
    (channel,) = statistics.read().channels
    assert channel.transport == transport
    if transport == "window":
        assert channel.switch == "futex"
        assert channel.waits.parks
        assert channel.waits.flips >= 2


def test_not_counted(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """statistics=False: channels are told, methods are not."""
    serve(DeskServer(), statistics=False)
    statistics, client = connect(Statistics), connect(Desk)
    client.add(1)
    told = statistics.read()
    assert (told.metered, told.methods) == (False, [])
    assert len(told.channels) == 1


def test_read_while_channels_come_and_go(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """Counts never go down, whoever ends meanwhile."""
    serve(DeskServer())
    statistics = connect(Statistics)

    def visit(_: int) -> None:
        client = connect(Desk)
        client.add(1)
        client.close()

    seen = 0
    with ThreadPoolExecutor(2) as threads:
        visits = [threads.submit(visit, i) for i in range(40)]
        while not all(v.done() for v in visits):
            now = sum(m.counts.calls for m in statistics.read().methods)
            assert now >= seen
            seen = now
        for v in visits:
            v.result()
    wait_until(lambda: not statistics.read().channels)
    assert sum(m.counts.calls for m in statistics.read().methods) == 40


@given(st.integers(0, 2**63 - 1))
def test_buckets(ns: int) -> None:
    """Python's bounds are those the C core counts by; a bucket is at most a quarter wider than its start."""
    bucket = lib.fc_meter_bucket(ns)
    assert 0 <= bucket < BUCKETS
    assert bucket_start_ns(bucket) <= ns
    if bucket < BUCKETS - 1:
        assert ns < bucket_start_ns(bucket + 1)
    if bucket:
        assert bucket_start_ns(bucket + 1) <= bucket_start_ns(bucket) * 1.25


@given(st.lists(st.integers(0, 10**9), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_near_the_truth(times: list[int], q: float) -> None:
    """To within its bucket."""
    buckets = [0] * BUCKETS
    for ns in times:
        buckets[lib.fc_meter_bucket(ns)] += 1
    truth = sorted(times)[max(0, -int(-q * len(times) // 1) - 1)]
    told = quantile_us(buckets, q)
    assert told is not None
    bucket = lib.fc_meter_bucket(truth)
    assert bucket_start_ns(bucket) <= told * 1000 * 1.0001
    assert told * 1000 <= bucket_start_ns(bucket + 1) * 1.0001


def test_counts_add_and_subtract() -> None:
    """Whatever the lengths of their buckets."""
    one, other = Counts(1, 0, 2, 3, 4, [1]), Counts(2, 1, 1, 1, 1, [0, 2])
    both = Counts()
    for each in (one, other):
        both.add(each)
    assert both == Counts(3, 1, 3, 4, 5, [1, 2])
    assert both.since(one) == Counts(2, 1, 1, 1, 1, [0, 2])
    assert quantile_us([], 0.5) is None
