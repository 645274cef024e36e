"""Streams: small items from the server, one after another.

calls_per_s of these rows are items per second, taken from a consumer that lags behind the server, so that one flip
carries many. Their latency is an item's: from before the server yields it until the client has it, when the
consumer does not lag, because the server waits GAP_NS (awake) before each.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType

import msgspec

import flipcall
from bench.echo import ITEM, Feed
from bench.measure import Effort, Sample, sample_loops
from bench.peer import ServeConfig
from bench.peers.base import Address
from bench.peers.library import TRANSPORTS
from bench.placement import Placement
from bench.policies import policy_named, switch_of
from bench.process import PeerProcess
from bench.rows import Labels, Row, find_row, ratio
from bench.run import Case, Progress, measure_group

GAP_NS = 20_000
NOTE = "items, not calls; the latency is that of an item for a consumer that does not lag"


class Stream:
    """The items of Feed, one process to the other."""

    def __init__(self, labels: Labels, directory: Path) -> None:
        assert labels.transport is not None
        self.labels = labels
        path = str(directory / f"stream-{labels.transport}.sock")
        policy = labels.policy or "balanced"
        address = Address(transport=labels.transport, path=path, content="items", policy=policy)
        with ExitStack() as stack:
            self.peer = stack.enter_context(PeerProcess(ServeConfig(address=address, cpu=-1)))
            self._feed = stack.enter_context(
                flipcall.connect(
                    Feed, path, transport=TRANSPORTS[labels.transport], policy=policy_named(policy)
                )
            )
            if list(self._feed.items(3)) != [ITEM] * 3:
                raise AssertionError("the items are not what was to be sent")
            self._open = stack.pop_all()

    def run(self, effort: Effort) -> Sample:
        """One run."""
        self._most = max(int(effort.seconds * 1e9 / GAP_NS), 5)
        return sample_loops(self, effort.seconds, self.peer.cpu_times)

    def plain(self, count: int) -> int:
        """See measure.Loops: a stream of so many items, from its call to its end."""
        clock = time.monotonic_ns
        started = clock()
        for _ in self._feed.items(count):
            pass
        return clock() - started

    def stamped(self, count: int) -> list[int]:
        """See measure.Loops; fewer where the gaps would take longer than the run may."""
        clock = time.monotonic_ns
        return [clock() - sent for sent in self._feed.ticks(min(count, self._most), GAP_NS)]

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._open.close()


def measure_part(
    effort: Effort, progress: Progress, directory: Path
) -> tuple[list[Row], dict[str, float | None]]:
    """The rows and ratios of streams; one comparison."""
    rows = measure_group([_case(transport, directory) for transport in TRANSPORTS], effort, progress)
    ours = find_row(rows, "stream", transport="flipcall")
    return rows, {
        "stream_items_per_s": ours.calls_per_s if ours else None,
        "stream_flipcall_over_socket": ratio(
            ours, find_row(rows, "stream", transport="socket"), "calls_per_s"
        ),
    }


def item_over_call(rows: list[Row]) -> float | None:
    """An item's latency by a call's, both over flipcall."""
    call = find_row(
        rows, "typed", transport="flipcall", load="back-to-back", placement="free", policy="balanced"
    )
    return ratio(find_row(rows, "stream", transport="flipcall"), call)


def _case(transport: str, directory: Path) -> Case:
    size = len(msgspec.msgpack.encode(ITEM))
    labels = Labels(case="stream", transport=transport, size=size)
    if transport == "flipcall":
        switch = switch_of("balanced", Placement.FREE)
        labels = msgspec.structs.replace(labels, policy="balanced", switch=switch)
    return Case(labels, partial(Stream, labels, directory), note=NOTE)
