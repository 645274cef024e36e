"""Running contenders in alternation, and turning what they return into rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import repeat
from statistics import median
from typing import Protocol, TypeVar

import msgspec

from bench.rows import Labels, Row

T = TypeVar("T")


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How long to measure. The quick one only shows that everything runs; its figures mean little."""

    runs: int
    seconds: float  # each of the two loops (stamped, plain) of one run
    paced_seconds: float  # the pauses of one paced run, together
    idle_seconds: float  # how long an idle server is watched
    thorough: bool = True  # False: leave out rows that would only show once more that something runs
    cases: tuple[str, ...] = ()  # patterns of the rows wanted (see wanted()); none: all

    def paced_calls(self, pause_us: int) -> int:
        """How many calls a paced run makes."""
        return max(round(self.paced_seconds * 1e6 / pause_us), 3)

    def more(self, runs: int, *, share: float = 1.0, paced: int = 1) -> Effort:
        """So many times the runs, each of that share of the seconds and of so many times the paced calls."""
        return msgspec.structs.replace(
            self,
            runs=self.runs * runs,
            seconds=self.seconds * share,
            paced_seconds=self.paced_seconds * paced,
        )

    def wanted(self, labels: Labels) -> bool:
        """Is the row asked for? A pattern, as of a shell, is one of a case or of case/placement/load."""
        whole = f"{labels.case}/{labels.placement}/{labels.load}"
        return not self.cases or any(fnmatchcase(labels.case, p) or fnmatchcase(whole, p) for p in self.cases)


FULL = Effort(runs=9, seconds=0.15, paced_seconds=0.6, idle_seconds=5.0)
MATRIX = Effort(runs=5, seconds=0.1, paced_seconds=0.25, idle_seconds=5.0)  # sendrecv, with its hundred rows
QUICK = Effort(runs=2, seconds=0.01, paced_seconds=0.01, idle_seconds=0.5, thorough=False)


class CpuTimes(msgspec.Struct, frozen=True):
    """CPU time used so far by both sides, in ns; None for a side that does not exist."""

    client: int | None
    server: int | None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one contender. Times in ns; the four from `mean` on are per call.

    `stamps`: every latency of a run too short for percentiles of its own.
    """

    p50: float | None = None
    p99: float | None = None
    mean: float | None = None
    client_cpu: float | None = None
    server_cpu: float | None = None
    elapsed: float | None = None  # wall time per call, pauses included
    stamps: tuple[int, ...] = ()


class Contender(Protocol):
    """One thing that is measured. It stays open, at rest, while the others have their turn."""

    @property
    def labels(self) -> Labels: ...

    def run(self, effort: Effort) -> Sample: ...


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The nearest-rank percentile: the smallest member that at least `fraction` of `ordered` does not exceed.

    `ordered` ascends and is not empty; `fraction` is above 0 and at most 1.
    """
    if not ordered or not 0.0 < fraction <= 1.0:
        raise ValueError("a percentile needs values and a fraction in (0, 1]")
    return ordered[max(math.ceil(fraction * len(ordered)), 1) - 1]


def alternate(contenders: Sequence[T], runs: int) -> Iterator[tuple[int, T]]:
    """(run, contender) in the order of measurement: everyone's first run, then everyone's second, ..."""
    for run in range(runs):
        for contender in contenders:
            yield run, contender


def measure(
    contenders: Sequence[Contender], effort: Effort, started: Callable[[int, Labels], None] | None = None
) -> list[Row]:
    """Run all `contenders` in alternation; one row each, in their order. `started` hears of each run."""
    samples: list[list[Sample]] = [[] for _ in contenders]
    for run, (index, contender) in alternate(list(enumerate(contenders)), effort.runs):
        if started is not None:
            started(run, contender.labels)
        samples[index].append(contender.run(effort))
    return [summarise(c.labels, taken) for c, taken in zip(contenders, samples, strict=True)]


def summarise(labels: Labels, samples: Sequence[Sample]) -> Row:
    """The row of one contender: the median of each figure over its runs, in µs.

    The p99 of paced runs, which have some dozen calls each, is that of all their calls together.
    """

    def values(figure: str) -> list[float]:
        return [value / 1000 for sample in samples if (value := getattr(sample, figure)) is not None]

    def middle(figure: str) -> float | None:
        return median(found) if (found := values(figure)) else None

    stamps = sorted(stamp for sample in samples for stamp in sample.stamps)
    p50s = values("p50")
    sides = [cpu for cpu in (middle("client_cpu"), middle("server_cpu")) if cpu is not None]
    elapsed = middle("elapsed")
    return Row.labelled(
        labels,
        p50_us=middle("p50"),
        p99_us=percentile(stamps, 0.99) / 1000 if stamps else middle("p99"),
        mean_us=middle("mean"),
        cpu_us_per_call=sum(sides) if sides else None,
        calls_per_s=1e6 / elapsed if elapsed else None,
        runs=len(samples),
        p50_min_us=min(p50s, default=None),
        p50_max_us=max(p50s, default=None),
        client_cpu_us_per_call=middle("client_cpu"),
        server_cpu_us_per_call=middle("server_cpu"),
    )


class Loops(Protocol):
    """Calls in a row, in ns; the loops are the contender's, for they are part of what is measured."""

    def plain(self, count: int) -> int:
        """`count` calls; the time they took together."""
        ...

    def stamped(self, count: int) -> list[int]:
        """`count` calls with a clock reading around each; how long each took."""
        ...


class CallLoops:
    """The loops around a function."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def plain(self, count: int) -> int:
        """See Loops."""
        clock, call = time.perf_counter_ns, self._call
        started = clock()
        for _ in repeat(None, count):
            call()
        return clock() - started

    def stamped(self, count: int) -> list[int]:
        """See Loops."""
        clock, call = time.perf_counter_ns, self._call
        stamps = [0] * count
        for index in range(count):
            before = clock()
            call()
            stamps[index] = clock() - before
        return stamps


def sample_calls(call: Callable[[], object], seconds: float, cpu_times: Callable[[], CpuTimes]) -> Sample:
    """One back-to-back run: calls with a clock reading around each for `seconds`, then as long without."""
    return sample_loops(CallLoops(call), seconds, cpu_times)


def sample_loops(loops: Loops, seconds: float, cpu_times: Callable[[], CpuTimes]) -> Sample:
    """One back-to-back run of `loops`: for a fifth of `seconds` to get warm, then stamped, then plain."""
    warm, batch = 0, 3
    warmed = 0
    while warm < seconds * 2e8:
        warm += loops.plain(batch)
        warmed += batch
        batch *= 2
    count = min(max(int(seconds * 1e9 / (warm / warmed)), 5), 500_000)
    stamps = sorted(loops.stamped(count))
    cpu_before = cpu_times()
    elapsed = loops.plain(count) / count
    client_cpu, server_cpu = cpu_spent(cpu_before, cpu_times(), count)
    return Sample(
        p50=percentile(stamps, 0.50),
        p99=percentile(stamps, 0.99),
        mean=elapsed,
        client_cpu=client_cpu,
        server_cpu=server_cpu,
        elapsed=elapsed,
    )


def sample_paced(
    call: Callable[[], object], pause_us: int, count: int, cpu_times: Callable[[], CpuTimes]
) -> Sample:
    """One paced run: `count` calls, each after a pause of `pause_us` in which both CPUs go idle.

    A tenth as many come first and do not count: the question is how calls this far apart go, not how they start.
    The pause is outside the latency but inside the CPU time: what a waiting side burns meanwhile is a cost
    of the call. (So is the client's own sleep, a few µs, the same for every contender.)
    """
    clock, sleep = time.perf_counter_ns, time.sleep
    call()
    stamps = []
    pause = pause_us / 1e6
    for _ in repeat(None, count // 10):
        sleep(pause)
        call()
    cpu_before = cpu_times()
    started = clock()
    for _ in repeat(None, count):
        sleep(pause)
        before = clock()
        call()
        stamps.append(clock() - before)
    elapsed = (clock() - started) / count
    client_cpu, server_cpu = cpu_spent(cpu_before, cpu_times(), count)
    stamps.sort()
    return Sample(
        p50=percentile(stamps, 0.50),
        p99=percentile(stamps, 0.99),
        mean=sum(stamps) / count,
        client_cpu=client_cpu,
        server_cpu=server_cpu,
        elapsed=elapsed,
        stamps=tuple(stamps),
    )


def cpu_spent(before: CpuTimes, after: CpuTimes, calls: int) -> tuple[float | None, float | None]:
    """CPU time per call of the client and of the server between two readings, ns."""

    def spent(then: int | None, now: int | None) -> float | None:
        return None if then is None or now is None else (now - then) / calls

    return spent(before.client, after.client), spent(before.server, after.server)
