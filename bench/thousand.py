"""A thousand connected clients that ask nothing: what they cost the server, and what a call of one of them takes.

Every connect() is a client; a few processes hold them all. The calls of one among them are compared with those of
a single client of another server, made by the same code: each after a pause and on the next connection, so that
all are woken in turn; and back to back, on one of them.
"""

from __future__ import annotations

import resource
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType

import msgspec

from bench.callers import Rotation
from bench.calls import BACK_TO_BACK, PACED, PAUSE_US
from bench.measure import Effort, Sample
from bench.peer import CallerConfig, ServeConfig
from bench.peers import peer_named
from bench.peers.base import Address
from bench.placement import Placement, UnavailableError
from bench.policies import switch_of
from bench.process import PeerProcess
from bench.rows import Labels, Row, find_row, ratio
from bench.run import Case, Progress, measure_group

CLIENTS = 1000
PROCESSES = 4
DESCRIPTORS = 4  # of a channel, on either side, at most
SINGLE, AMONG = "single", f"among_{CLIENTS}"
POLICY = "balanced"


class Connected:
    """A server and so many connected clients, in child processes; the first of these makes the calls."""

    def __init__(self, clients: int, directory: Path) -> None:
        _require_descriptors(clients)
        peer_named("flipcall")
        address = Address(transport="flipcall", path=str(directory / f"connected-{clients}.sock"))
        processes = min(PROCESSES, clients)
        with ExitStack() as stack:
            self.server = stack.enter_context(PeerProcess(ServeConfig(address=address, cpu=-1)))
            config = partial(CallerConfig, address=address, server=self.server.pid)
            self._callers = [
                stack.enter_context(PeerProcess(config(connections=clients // processes), wait=False))
                for _ in range(processes)
            ]
            for caller in self._callers:
                caller.wait_ready()
            self._open = stack.pop_all()

    def run(self, load: str, effort: Effort) -> Sample:
        """One run of the first process's clients."""
        request = Rotation(pause_us=PAUSE_US if load == PACED else 0, effort=effort)
        return msgspec.json.decode(self._callers[0].ask(msgspec.json.encode(request)), type=Sample)

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Connected:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


class OneOf:
    """The contender that a Connected is under one load; it stays open for the next."""

    def __init__(self, labels: Labels, connected: Connected) -> None:
        self.labels = labels
        self._connected = connected

    def run(self, effort: Effort) -> Sample:
        """One run."""
        return self._connected.run(self.labels.load, effort)

    def __enter__(self) -> OneOf:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        pass


def measure_part(
    effort: Effort, progress: Progress, directory: Path
) -> tuple[list[Row], dict[str, float | None]]:
    """The rows and ratios of many connected clients."""
    idle = Labels(case="idle", transport="flipcall", policy=POLICY, load=f"{CLIENTS}-clients")
    found: dict[str, float | None] = dict.fromkeys(
        (f"idle_{CLIENTS}_clients_rss_mib", f"idle_{CLIENTS}_clients_cpu_percent")
    )
    loads = [
        load
        for load in (PACED, BACK_TO_BACK)
        if any(effort.wanted(_labels(c, load)) for c in (SINGLE, AMONG))
    ]
    if not loads and not effort.wanted(idle):
        return [], {**found, **ratios([])}
    rows: list[Row] = []
    with ExitStack() as stack:
        progress(f"connecting {CLIENTS} clients")
        try:
            many = stack.enter_context(Connected(CLIENTS, directory))
            one = stack.enter_context(Connected(1, directory))
        except UnavailableError as error:
            missing = [idle, *(_labels(case, load) for load in loads for case in (SINGLE, AMONG))]
            return [Row.labelled(labels, note=str(error)) for labels in missing], {**found, **ratios([])}
        if effort.wanted(idle):
            row = _watched(idle, many, effort, progress)
            rows.append(row)
            found = dict(zip(found, (row.rss_mib, row.cpu_percent), strict=True))
        for load in loads:
            cases = [_case(SINGLE, load, one), _case(AMONG, load, many)]
            rows += measure_group(cases, effort, progress)
    return rows, {**found, **ratios(rows)}


def ratios(rows: list[Row]) -> dict[str, float | None]:
    """What the others cost one of them."""

    def over(load: str) -> float | None:
        return ratio(find_row(rows, AMONG, load=load), find_row(rows, SINGLE, load=load))

    name = f"call_{AMONG}_over_single"
    return {name: over(PACED), f"{name}_back_to_back": over(BACK_TO_BACK)}


def _labels(case: str, load: str) -> Labels:
    switch = switch_of(POLICY, Placement.FREE)
    return Labels(case=case, transport="flipcall", switch=switch, policy=POLICY, load=load)


def _case(case: str, load: str, connected: Connected) -> Case:
    labels = _labels(case, load)
    return Case(labels, partial(OneOf, labels, connected))


def _watched(labels: Labels, many: Connected, effort: Effort, progress: Progress) -> Row:
    progress(f"{labels}: {effort.idle_seconds} s")
    before, started = many.server.cpu_ns(), time.monotonic_ns()
    time.sleep(effort.idle_seconds)
    used = many.server.cpu_ns() - before
    percent = 100.0 * used / (time.monotonic_ns() - started)
    return Row.labelled(labels, runs=1, cpu_percent=percent, rss_mib=many.server.rss_mib())


def _require_descriptors(clients: int) -> None:
    need, (_, most) = clients * DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < need:
        raise UnavailableError(f"{clients} clients need {need} descriptors, RLIMIT_NOFILE allows {most}")
