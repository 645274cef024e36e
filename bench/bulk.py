"""Bulk: so many bytes there and back, beside the copies that takes, over flipcall and its peers.

A memcpy row is what an echo cannot do without: from the client's private memory into the shared, from there into
the server's, and the same back; four copies of the same buffers again and again, in one process, so at best from
its cache.
"""

from __future__ import annotations

import mmap
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from bench.calls import EchoCall
from bench.measure import Contender, CpuTimes, Effort, Sample, sample_calls
from bench.placement import Placement
from bench.policies import switch_of
from bench.rows import Labels, Row, find_row, ratio
from bench.run import Case, Progress, measure_group

KIB_64, MIB = 1 << 16, 1 << 20
SIZES = (KIB_64, MIB)
TRANSPORTS = ("flipcall", "socket", "busy-ring", "pipe", "zmq", "flipcall-split")
NEW = "each side makes a new bytes object for each message"
REUSED = "four copies, two each way, one process; buffers reused"


class Memcpy:
    """The four copies of an echo, without an echo."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        size = labels.size or 0
        self._shared = memoryview(mmap.mmap(-1, size))
        self._client, self._server = memoryview(bytearray(size)), memoryview(bytearray(size))

    def run(self, effort: Effort) -> Sample:
        """One run."""
        return sample_calls(self._copies, effort.seconds, _own_time)

    def _copies(self) -> None:
        shared, client, server = self._shared, self._client, self._server
        shared[:] = client
        server[:] = shared
        shared[:] = server
        client[:] = shared


def measure_part(
    effort: Effort, progress: Progress, directory: Path
) -> tuple[list[Row], dict[str, float | None]]:
    """The rows and ratios of bulk calls. Each size is one comparison."""
    rows: list[Row] = []
    for size in SIZES:
        transports = TRANSPORTS if effort.thorough else TRANSPORTS[:3]
        rows += measure_group(_cases(size, transports, directory), effort, progress)
    return rows, ratios(rows)


def ratios(rows: list[Row]) -> dict[str, float | None]:
    """flipcall beside the copies, and its peers beside it."""

    def row(transport: str, size: int) -> Row | None:
        return find_row(rows, "echo", transport=transport, size=size)

    found = {"echo_1mib_over_memcpy": ratio(row("flipcall", MIB), row("memcpy", MIB))}
    for size, name in ((KIB_64, "64kib"), (MIB, "1mib")):
        for peer in TRANSPORTS[1:]:
            key = f"echo_{name}_{peer.replace('-', '_')}_over_flipcall"
            found[key] = ratio(row(peer, size), row("flipcall", size))
    return found


def _cases(size: int, transports: tuple[str, ...], directory: Path) -> list[Case]:
    cases = []
    for transport in transports:
        labels = Labels(case="echo", transport=transport, size=size)
        if transport.startswith("flipcall"):
            switch = switch_of("balanced", Placement.FREE)
            labels = Labels(case="echo", transport=transport, size=size, policy="balanced", switch=switch)
        cases.append(Case(labels, partial(EchoCall, labels, Placement.FREE, directory, "bytes"), note=NEW))
    copies = Labels(case="echo", transport="memcpy", size=size)

    def open_copies() -> AbstractContextManager[Contender]:
        return nullcontext(Memcpy(copies))

    return [*cases, Case(copies, open_copies, note=REUSED)]


def _own_time() -> CpuTimes:
    return CpuTimes(client=time.process_time_ns(), server=None)
