"""What calls to a gofer cost, over either transport."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from gofer.client import GoferClient

RUNS = 5
_CALLS = {"window": 4000, "socket": 1000}
"""Calls a run; the runs of both transports alternate, so that both meet the same weather."""


class Latency(NamedTuple):
    """Microseconds a call: the median of the runs' medians."""

    window: float
    socket: float


def latencies(path: str, file: bytes) -> dict[str, Latency]:
    """What calls cost over either transport, measured in turns."""
    with (
        GoferClient(path, transport="window") as window,
        GoferClient(path, transport="socket") as socket,
    ):
        return {
            "small typed call": _measure(_call, window, socket, file),
            "stat of a file": _measure(_stat, window, socket, file),
            "open + close": _measure(_open_close, window, socket, file),
        }


Timed = Callable[[GoferClient, bytes], Callable[[], object]]


def _call(client: GoferClient, _file: bytes) -> Callable[[], object]:
    """Give back no FIDs: a request and a reply, and nothing to do between."""
    call, none = client.gofer.close_fids, list[int]()
    return lambda: call(none)


def _stat(client: GoferClient, file: bytes) -> Callable[[], object]:
    call, fid = client.gofer.stat, client.fid(file)
    return lambda: call(fid)


def _open_close(client: GoferClient, file: bytes) -> Callable[[], object]:
    """Two calls: an open file comes into being in the other process and goes again."""
    opening, closing, fid = client.gofer.open, client.gofer.close_fids, client.fid(file)
    return lambda: closing([opening(fid, os.O_RDONLY).fid])


def _measure(timed: Timed, window: GoferClient, socket: GoferClient, file: bytes) -> Latency:
    over = {"window": timed(window, file), "socket": timed(socket, file)}
    medians: dict[str, list[float]] = {"window": [], "socket": []}
    for _ in range(RUNS):
        for name, action in over.items():
            medians[name].append(_median_us(action, _CALLS[name]))
    return Latency(statistics.median(medians["window"]), statistics.median(medians["socket"]))


def _median_us(action: Callable[[], object], count: int) -> float:
    """Median of `count` calls, after a few to warm up."""
    clock = time.perf_counter_ns
    for _ in range(count // 10):
        action()
    taken = []
    for _ in range(count):
        began = clock()
        action()
        taken.append(clock() - began)
    return statistics.median(taken) / 1000
