"""Statistics: a built-in service of every server that tells what its calls cost and how its channels wait.

Counted by the C core, channel by channel (core/meter.c); added up here when somebody asks. What channels that have
ended counted is kept.
"""

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import msgspec

from .errors import CallError
from .meter import Counts, quantile_us
from .outcome import Stats
from .service import Service
from .status import Status

Doing = Literal["serving", "spinning", "parked"]


class MethodStats(msgspec.Struct):
    """A method: all its calls since the server started. Times are the server's own, from a request's coming to its
    answer's going, in microseconds; None before the first call.
    """

    name: str
    counts: Counts
    mean_us: float | None
    p50_us: float | None
    p99_us: float | None


class ChannelStats(msgspec.Struct):
    """A channel there is now. pid, uid: its client's. doing: "serving" a call; else waiting for one, "spinning" or
    "parked" in the kernel. waits: how its side has waited; of the socket transport zeros.
    """

    pid: int
    uid: int
    transport: str
    switch: str
    doing: Doing
    calls: int
    errors: int
    busy_ns: int
    waits: Stats


class ServerStats(msgspec.Struct):
    """A server: a process, or `workers` processes together, where it has those; `pid` is the one that started
    them. What workers that have ended counted is lost.
    """

    pid: int
    service: str
    uptime_s: float
    metered: bool  # else methods are not counted: Server(statistics=False)
    methods: list[MethodStats]
    channels: list[ChannelStats]
    workers: list[int] = []


class Statistics(Service, name="flipcall.Statistics"):
    """What a server's calls cost. Its built-in services are not counted."""

    def read(self) -> ServerStats:
        """All there is to know, as of now."""
        raise NotImplementedError


class Observed(NamedTuple):
    """A channel as it is seen from outside, and what it has counted, by the method's name."""

    channel: ChannelStats
    counts: dict[str, Counts]


class Ledger:
    """What ended channels have counted, by the method's name. Any thread.

    A channel ends, and is looked at, under one lock: else its counts could be in neither place for a moment.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed: dict[str, Counts] = {}

    def keep(self, end: Callable[[], dict[str, Counts]]) -> None:
        """A channel ends, having counted what `end` says; nobody observes it from then on."""
        with self._lock:
            for name, each in end().items():
                self._closed.setdefault(name, Counts()).add(each)

    def read(self, observe: Callable[[], list[Observed]]) -> tuple[list[Observed], dict[str, Counts]]:
        """The channels there are, by `observe`, and the sum of theirs and of what is kept."""
        total: dict[str, Counts] = {}
        with self._lock:
            seen = observe()
            for counts in (self._closed, *(each.counts for each in seen)):
                for name, each in counts.items():
                    total.setdefault(name, Counts()).add(each)
        return seen, total


class StatisticsServer(Statistics):
    """The server's side. `observe` tells of the channels there are."""

    def __init__(
        self,
        service: Callable[[], str],
        ledger: Ledger,
        observe: Callable[[], list[Observed]],
        metered: bool,
    ) -> None:
        self._service = service
        self._ledger = ledger
        self._observe = observe
        self._metered = metered
        self._started = time.monotonic()
        self.whole: Callable[[ServerStats], ServerStats] | None = None  # a worker's: with the other workers

    def read(self) -> ServerStats:
        own = self.own()
        return own if self.whole is None else self.whole(own)

    def own(self) -> ServerStats:
        """Those of this process."""
        seen, total = self._ledger.read(self._observe)
        return ServerStats(
            os.getpid(),
            self._service(),
            time.monotonic() - self._started,
            self._metered,
            [method_stats(name, total[name]) for name in sorted(total)],
            [each.channel for each in seen],
        )


def together(pid: int, workers: list[ServerStats]) -> ServerStats:
    """The server of process `pid` that these workers, one at least, are: their sums."""
    ledger = Ledger()
    for worker in workers:
        counted = {method.name: method.counts for method in worker.methods}
        ledger.keep(partial(dict, counted))
    _, total = ledger.read(list)
    return ServerStats(
        pid,
        workers[0].service,
        max(worker.uptime_s for worker in workers),
        workers[0].metered,
        [method_stats(name, total[name]) for name in sorted(total)],
        [channel for worker in workers for channel in worker.channels],
        sorted(worker.pid for worker in workers),
    )


_told = msgspec.msgpack.Decoder(ServerStats)


def of_workers(pid: int, told: list[bytes], own: ServerStats | None = None) -> ServerStats:
    """The server of process `pid`, by what its workers have told, and this one, if it is one. Raises CallError
    (UNAVAILABLE) when there is none.
    """
    workers = [*([] if own is None else [own]), *map(_told.decode, told)]
    if not workers:
        raise CallError(Status.UNAVAILABLE, "no worker is there to tell")
    return together(pid, workers)


def method_stats(name: str, counts: Counts) -> MethodStats:
    """The figures of some counts, of all calls or of those since an earlier reading."""
    mean = counts.total_ns / counts.calls / 1000 if counts.calls else None
    return MethodStats(
        name, counts, mean, quantile_us(counts.buckets, 0.5), quantile_us(counts.buckets, 0.99)
    )
