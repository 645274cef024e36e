"""The `call` family: echoes, service class to service class, over the window and over what people use instead.

    typed       the issue's typed call: back to back and paced, one client            (here)
    typed       the same from 8 client processes at once                              (crowd.py)
    typed       the same from a task of an event loop                                 (eventloop.py)
    workers     a client for each of a server's worker processes                      (workers.py)
    single, among_1000   a client alone, and among a thousand connected ones          (thousand.py)
    echo        64 KiB and 1 MiB of bytes                                             (bulk.py)
    download    1 MiB one way: as bytes, into a buffer, as a view                     (views.py)
    upload      1 MiB the other way: as bytes, filled in place                        (uploads.py)
    stream      items one after another                                               (streams.py)
    idle        what a server costs while nobody asks                                 (idle.py)

Client and server are Python processes, and every transport has a server process of its own, so that its CPU time
is its own. All use msgspec, so what is compared is the way the bytes take.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec.structs import replace

from bench import bulk, crowd, eventloop, idle, streams, thousand, uploads, views, workers
from bench.calls import BACK_TO_BACK, PACED, POLICIES, EchoCall
from bench.echo import ITEM
from bench.measure import Effort
from bench.peers import PEERS
from bench.placement import Placement
from bench.policies import switch_of
from bench.rows import Labels, Row, find_row, ratio
from bench.run import Case, Progress, measure_group

OURS = ("flipcall", "socket")


def measure_family(effort: Effort, progress: Progress) -> tuple[list[Row], dict[str, float | None]]:
    """All rows and ratios of the family. Each load and placement is one comparison."""
    rows: list[Row] = []
    found: dict[str, float | None] = {}
    with TemporaryDirectory(prefix="flipcall-bench-") as name:
        directory = Path(name)
        some = (*OURS, "busy-ring") if effort.thorough else OURS
        for load, placement, transports in (
            (BACK_TO_BACK, Placement.FREE, PEERS),
            (BACK_TO_BACK, Placement.TWO_CPUS, some),
            (BACK_TO_BACK, Placement.ONE_CPU, some),
            (PACED, Placement.FREE, PEERS if effort.thorough else OURS),
        ):
            cases = _cases(load, placement, transports, directory)
            if (load, placement) == (BACK_TO_BACK, Placement.FREE):
                cases.insert(1, _asyncio_case(cases[0].labels, directory))
            rows += measure_group(cases, effort, progress)
        found |= ratios(rows)
        for part in (crowd, workers, bulk, views, uploads, streams, idle, thousand):
            more, named = part.measure_part(effort, progress, directory)
            rows += more
            found |= named
    found["stream_item_over_call"] = streams.item_over_call(rows)
    return rows, found


def ratios(rows: list[Row]) -> dict[str, float | None]:
    """How much longer a call takes over a peer; below 1 where the peer wins. Default policy."""

    def over(
        peer: str, load: str, placement: Placement = Placement.FREE, figure: str = "p50_us"
    ) -> float | None:
        other = find_row(rows, "typed", transport=peer, load=load, placement=placement.value)
        window = find_row(
            rows, "typed", transport="flipcall", load=load, placement=placement.value, policy="balanced"
        )
        return ratio(other, window, figure)

    found: dict[str, float | None] = {}
    for peer in PEERS:
        if peer != "flipcall":
            key = peer.replace("-", "_")
            found[f"typed_{key}_over_flipcall"] = over(peer, BACK_TO_BACK)
            found[f"typed_cpu_{key}_over_flipcall"] = over(peer, BACK_TO_BACK, figure="cpu_us_per_call")
            found[f"typed_paced_{key}_over_flipcall"] = over(peer, PACED)
            found[f"typed_paced_cpu_{key}_over_flipcall"] = over(peer, PACED, figure="cpu_us_per_call")
    for peer in ("socket", "busy-ring"):
        key = peer.replace("-", "_")
        found[f"typed_two_cpus_{key}_over_flipcall"] = over(peer, BACK_TO_BACK, Placement.TWO_CPUS)
        found[f"typed_one_cpu_{key}_over_flipcall"] = over(peer, BACK_TO_BACK, Placement.ONE_CPU)
    paced = found["typed_paced_socket_over_flipcall"]
    found["paced_flipcall_over_socket"] = 1 / paced if paced else None
    return found


def _asyncio_case(beside: Labels, directory: Path) -> Case:
    labels = replace(beside, transport=eventloop.TRANSPORT)
    return Case(labels, partial(eventloop.EventLoopCall, labels, directory))


def _cases(load: str, placement: Placement, transports: tuple[str, ...], directory: Path) -> list[Case]:
    plain = Labels(case="typed", load=load, placement=placement.value, size=len(msgspec.msgpack.encode(ITEM)))
    every: list[Labels] = []
    for transport in transports:
        labels = replace(plain, transport=transport)
        for policy in POLICIES.get(transport, (None,)):
            switch = switch_of(policy, placement) if policy else None
            every.append(replace(labels, policy=policy, switch=switch))
    return [Case(labels, partial(EchoCall, labels, placement, directory)) for labels in every]
