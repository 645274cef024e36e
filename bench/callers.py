"""A process of clients, started by the bench: the child's half of crowd.py and thousand.py."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from itertools import cycle

import msgspec

from bench.echo import ITEM
from bench.measure import CpuTimes, Effort, Sample, sample_calls, sample_paced
from bench.peer import CallerConfig, ready, say
from bench.peers import peer_named
from bench.peers.base import Call
from bench.process import process_clock

CHUNK = 8  # calls between two looks at the clock: one look would be a fortieth of a call
THINNED = 16  # of so many latencies one is told


class Burst(msgspec.Struct, frozen=True, tag="burst"):
    """Call back to back on the first connection, from `start_ns` (CLOCK_MONOTONIC, for all the same), so long."""

    start_ns: int
    seconds: float
    stamped: bool  # a clock reading around each call


class Rotation(msgspec.Struct, frozen=True, tag="rotation"):
    """Call on one connection after another, each time after a pause; or, without pause, on one of them."""

    pause_us: int
    effort: Effort


Request = Burst | Rotation


class Tally(msgspec.Struct, frozen=True):
    """What one client did in a burst. Stamps: every THINNED-th of its latencies, in ns, by size.

    At least one call, though the burst was over before this process ran at all.
    """

    calls: int
    cpu_ns: int
    ended_ns: int
    stamps: list[int] = []


def serve_calls(config: CallerConfig) -> None:
    """Connect, then obey."""
    peer = peer_named(config.address.transport)
    with ExitStack() as stack:
        calls = [stack.enter_context(peer.connect(config.address)) for _ in range(config.connections)]
        for call in calls:
            if call(ITEM) != ITEM:
                raise AssertionError("the echo is not what was sent")
        ready()
        for line in sys.stdin:
            request = msgspec.json.decode(line, type=Request)
            if isinstance(request, Burst):
                done: Tally | Sample = (
                    _stamped(calls[0], request) if request.stamped else _plain(calls[0], request)
                )
            else:
                done = _rotated(calls, request, config.server)
            say(msgspec.json.encode(done).decode())


def _plain(call: Call, burst: Burst) -> Tally:
    clock, end, item, count = time.monotonic_ns, burst.start_ns + int(burst.seconds * 1e9), ITEM, 0
    _wait_for(burst.start_ns)
    before = time.process_time_ns()
    while True:
        for _ in range(CHUNK):
            call(item)
        count += CHUNK
        if (now := clock()) >= end:
            return Tally(calls=count, cpu_ns=time.process_time_ns() - before, ended_ns=now)


def _stamped(call: Call, burst: Burst) -> Tally:
    clock, end, item = time.monotonic_ns, burst.start_ns + int(burst.seconds * 1e9), ITEM
    stamps = []
    _wait_for(burst.start_ns)
    before = time.process_time_ns()
    now = clock()
    while True:
        started = now
        call(item)
        now = clock()
        stamps.append(now - started)
        if now >= end:
            break
    cpu = time.process_time_ns() - before
    stamps.sort()
    thinned = stamps[len(stamps) % THINNED // 2 :: THINNED]
    return Tally(calls=len(stamps), cpu_ns=cpu, ended_ns=now, stamps=thinned)


def _wait_for(start_ns: int) -> None:
    while (left := start_ns - time.monotonic_ns()) > 0:
        time.sleep(left / 1e9)


def _rotated(calls: list[Call], rotation: Rotation, server: int) -> Sample:
    def cpu_times() -> CpuTimes:
        return CpuTimes(client=time.process_time_ns(), server=time.clock_gettime_ns(process_clock(server)))

    effort = rotation.effort
    if not rotation.pause_us:
        return sample_calls(lambda: calls[len(calls) // 2](ITEM), effort.seconds, cpu_times)
    turns = cycle(calls)
    count = effort.paced_calls(rotation.pause_us)
    return sample_paced(lambda: next(turns)(ITEM), rotation.pause_us, count, cpu_times)
