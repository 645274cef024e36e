"""Client processes on one server process, all calling back to back for a fixed time after a common start."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType

import msgspec

from bench.callers import Burst, Tally
from bench.calls import ITEM_ROOM
from bench.echo import ITEM
from bench.measure import Effort, Sample, percentile
from bench.peer import CallerConfig, ServeConfig
from bench.peers import peer_named
from bench.peers.base import Address
from bench.placement import Placement
from bench.policies import switch_of
from bench.process import PeerProcess
from bench.rows import Labels, Row, find_row, ratio
from bench.run import Case, Progress, measure_group

CLIENTS = 8  # of the target
# Who is measured with how many clients.
CROWDS = {
    2: ("flipcall", "socket"),
    CLIENTS: ("flipcall", "socket", "busy-ring"),
    64: ("flipcall", "socket"),
}
LENGTHENED = 3  # a run has to see many of the scheduler's turns
START_NS = 20_000_000  # from the order to the common start
NOTE = "calls/s of all client processes together; latency of each one's calls, from runs of their own"


class Crowd:
    """So many client processes of one server process. Raises UnavailableError."""

    def __init__(self, labels: Labels, directory: Path, clients: int, workers: int = 0) -> None:
        assert labels.transport is not None
        self.labels = labels
        peer = peer_named(labels.transport)
        with ExitStack() as stack:
            theirs, ours = peer.ends(stack, clients, ITEM_ROOM)
            address = partial(
                Address,
                transport=labels.transport,
                path=str(directory / f"{labels.transport}-{clients}-{workers}.sock"),
                size=ITEM_ROOM,
                policy=labels.policy or "balanced",
                workers=workers,
            )
            config = ServeConfig(address=address(fds=tuple(theirs)), cpu=-1)
            self._server = stack.enter_context(PeerProcess(config, pass_fds=theirs))
            caller = partial(CallerConfig, connections=1, server=self._server.pid)
            self._clients = [
                stack.enter_context(
                    PeerProcess(caller(address=address(fds=tuple(fds))), pass_fds=fds, wait=False)
                )
                for fds in ([[fd] for fd in ours] or [[]] * clients)
            ]
            for client in self._clients:
                client.wait_ready()
            self._awake: Callable[[], AbstractContextManager[None]] = nullcontext
            if peer.polls:
                self._server.suspend()
                self._awake = self._server.awake
            self._open = stack.pop_all()

    def run(self, effort: Effort) -> Sample:
        """One run: a burst that is counted, then one that is stamped."""
        seconds = effort.seconds * LENGTHENED
        with self._awake():
            before = self._server.cpu_ns()
            counted, elapsed = self._burst(seconds, stamped=False)
            server_cpu = self._server.cpu_ns() - before
            stamped, _ = self._burst(seconds, stamped=True)
        calls = sum(tally.calls for tally in counted)
        stamps = sorted(stamp for tally in stamped for stamp in tally.stamps)
        return Sample(
            p50=percentile(stamps, 0.50),
            p99=percentile(stamps, 0.99),
            client_cpu=sum(tally.cpu_ns for tally in counted) / calls,
            server_cpu=server_cpu / calls,
            elapsed=elapsed / calls,
        )

    def _burst(self, seconds: float, *, stamped: bool) -> tuple[list[Tally], int]:
        """What each client did, and how long it was until the last had ended, ns."""
        start_ns = time.monotonic_ns() + START_NS
        request = msgspec.json.encode(Burst(start_ns=start_ns, seconds=seconds, stamped=stamped))
        for client in self._clients:
            client.tell(request)
        tallies = [msgspec.json.decode(client.answer(), type=Tally) for client in self._clients]
        return tallies, max(tally.ended_ns for tally in tallies) - start_ns

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._open.close()


def measure_part(
    effort: Effort, progress: Progress, directory: Path
) -> tuple[list[Row], dict[str, float | None]]:
    """The rows and ratios of many clients at once. Each number of clients is one comparison."""
    rows: list[Row] = []
    crowds = CROWDS if effort.thorough else {CLIENTS: ("flipcall", "socket")}
    for clients, transports in crowds.items():
        cases = [_case(transport, clients, directory) for transport in transports]
        rows += measure_group(cases, effort, progress)
    return rows, ratios(rows)


def ratios(rows: list[Row]) -> dict[str, float | None]:
    """Calls per second of all clients together, and how many times the peers' that is."""
    found: dict[str, float | None] = {}
    load = load_of(CLIENTS)
    ours = find_row(rows, "typed", transport="flipcall", load=load)
    found[f"clients_{CLIENTS}_calls_per_s"] = ours.calls_per_s if ours else None
    for peer in CROWDS[CLIENTS][1:]:
        theirs = find_row(rows, "typed", transport=peer, load=load)
        name = f"clients_{CLIENTS}_flipcall_over_{peer.replace('-', '_')}"
        found[name] = ratio(ours, theirs, "calls_per_s")
    return found


def load_of(clients: int) -> str:
    """The label of so many clients at once."""
    return f"{clients}-clients"


def _case(transport: str, clients: int, directory: Path) -> Case:
    size = len(msgspec.msgpack.encode(ITEM))
    labels = Labels(case="typed", transport=transport, load=load_of(clients), size=size)
    if transport == "flipcall":
        switch = switch_of("balanced", Placement.FREE)
        labels = msgspec.structs.replace(labels, policy="balanced", switch=switch)
    return Case(labels, partial(Crowd, labels, directory, clients), note=NOTE)
