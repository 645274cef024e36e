"""The issue's typed call, echoed: service class to service class, over the window and over a Unix socket.

Client and server are two Python processes. Both transports are the library's own, with msgspec on both, so
what is compared is the way the bytes take; each transport has a server process of its own, so that its CPU
time is its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Literal

import msgspec
from msgspec.structs import replace

import flipcall
from bench import views
from bench.echo import ITEM, Echo
from bench.measure import Effort, Sample, sample_calls, sample_paced
from bench.peer import EchoConfig
from bench.placement import Placement, pinned
from bench.policies import making_cpu, policy_named, switch_of
from bench.process import PeerProcess
from bench.rows import Labels, Row, find_row, ratio
from bench.run import Case, Progress, measure_group

BACK_TO_BACK = "back-to-back"
PACED = "paced-10ms"
PAUSE_US = 10_000
# Our labels, and connect()'s names.
TRANSPORTS: dict[str, Literal["window", "socket"]] = {"flipcall": "window", "socket": "socket"}

# The flipcall contenders beside the socket, by wait policy. The default comes first: its row is the target's.
POLICIES = ("balanced", "frugal")


class TypedCall:
    """Echo.echo(ITEM), this process to a server process of its own."""

    def __init__(self, labels: Labels, placement: Placement, directory: Path) -> None:
        self.labels = labels
        self._client_cpu, server_cpu = placement.cpus
        assert labels.transport is not None
        policy = labels.policy or "balanced"
        path = str(directory / f"{labels.transport}-{policy}-{placement.value}-{labels.load}.sock")
        with ExitStack() as stack, pinned(making_cpu(placement)):
            config = EchoConfig(path=path, policy=policy, cpu=making_cpu(placement))
            self.peer = stack.enter_context(PeerProcess(config))
            self._echo = stack.enter_context(
                flipcall.connect(
                    Echo, path, transport=TRANSPORTS[labels.transport], policy=policy_named(policy)
                )
            )
            if self._echo.echo(ITEM) != ITEM:
                raise AssertionError("the echo is not what was sent")
            self.peer.pin(server_cpu)  # now that the channel is made: see making_cpu
            self._open = stack.pop_all()

    def run(self, effort: Effort) -> Sample:
        """One run under the row's load, with this thread on the placement's CPU."""
        call = partial(self._echo.echo, ITEM)
        with pinned(self._client_cpu):
            if self.labels.load == PACED:
                return sample_paced(call, PAUSE_US, effort.paced_calls(PAUSE_US), self.peer.cpu_times)
            return sample_calls(call, effort.seconds, self.peer.cpu_times)

    def __enter__(self) -> TypedCall:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._open.close()


def measure_family(effort: Effort, progress: Progress) -> tuple[list[Row], dict[str, float | None]]:
    """All rows and ratios of the family. Each load and placement is one comparison."""
    with TemporaryDirectory(prefix="flipcall-bench-") as name:
        directory = Path(name)
        rows: list[Row] = []
        for load, placement in (
            (BACK_TO_BACK, Placement.FREE),
            (BACK_TO_BACK, Placement.TWO_CPUS),
            (BACK_TO_BACK, Placement.ONE_CPU),
            (PACED, Placement.FREE),
        ):
            rows += measure_group(_cases(load, placement, directory), effort, progress)
        idle = idle_percent(effort, progress, directory)
        more, named = views.measure_part(effort, progress, directory)
    return [*rows, *more], {**ratios(rows), **idle, **named}


def ratios(rows: list[Row]) -> dict[str, float | None]:
    """How much longer a call takes over the socket; below 1 where the socket wins. Default policy."""

    def over(load: str, placement: Placement, figure: str = "p50_us") -> float | None:
        socket = find_row(rows, "typed", transport="socket", load=load, placement=placement.value)
        window = find_row(
            rows, "typed", transport="flipcall", load=load, placement=placement.value, policy="balanced"
        )
        return ratio(socket, window, figure)

    return {
        "typed_socket_over_flipcall": over(BACK_TO_BACK, Placement.FREE),
        "typed_cpu_socket_over_flipcall": over(BACK_TO_BACK, Placement.FREE, "cpu_us_per_call"),
        "typed_two_cpus_socket_over_flipcall": over(BACK_TO_BACK, Placement.TWO_CPUS),
        "typed_one_cpu_socket_over_flipcall": over(BACK_TO_BACK, Placement.ONE_CPU),
        "typed_paced_socket_over_flipcall": over(PACED, Placement.FREE),
        "typed_paced_cpu_socket_over_flipcall": over(PACED, Placement.FREE, "cpu_us_per_call"),
    }


def idle_percent(effort: Effort, progress: Progress, directory: Path) -> dict[str, float | None]:
    """CPU used by a server whose one client has stopped asking, and by that client: % of one CPU.

    The clock starts with the last answer, so the spin after it counts too.
    """
    labels = Labels(case="typed", transport="flipcall", policy="balanced", load="idle")
    if not effort.wanted(labels):
        return dict.fromkeys(("idle_server_cpu_percent", "idle_client_cpu_percent"))
    with TypedCall(labels, Placement.FREE, directory) as idle:
        progress(f"{labels}: {effort.idle_seconds} s")
        before, started = idle.peer.cpu_times(), time.monotonic_ns()
        time.sleep(effort.idle_seconds)
        after, elapsed = idle.peer.cpu_times(), time.monotonic_ns() - started

    def percent(then: int | None, now: int | None) -> float | None:
        return None if then is None or now is None else 100.0 * (now - then) / elapsed

    return {
        "idle_server_cpu_percent": percent(before.server, after.server),
        "idle_client_cpu_percent": percent(before.client, after.client),
    }


def _cases(load: str, placement: Placement, directory: Path) -> Sequence[Case]:
    size = len(msgspec.msgpack.encode(ITEM))
    socket = Labels(case="typed", transport="socket", load=load, placement=placement.value, size=size)
    every = [
        replace(socket, transport="flipcall", policy=policy, switch=switch_of(policy, placement))
        for policy in POLICIES
    ]
    every.insert(1, socket)
    return [Case(labels, partial(TypedCall, labels, placement, directory)) for labels in every]
