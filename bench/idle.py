"""What a server costs while its one client has stopped asking: CPU time, as a share of one CPU."""

from __future__ import annotations

import time
from pathlib import Path

from bench.calls import EchoCall
from bench.measure import Effort
from bench.placement import Placement, UnavailableError
from bench.rows import Labels, Row
from bench.run import Progress

TRANSPORTS = ("flipcall", "socket", "busy-ring")


def measure_part(
    effort: Effort, progress: Progress, directory: Path
) -> tuple[list[Row], dict[str, float | None]]:
    """A row for each server, one after another: they disturb nobody, the ring apart, and it only itself."""
    rows: list[Row] = []
    found: dict[str, float | None] = dict.fromkeys(
        ("idle_server_cpu_percent", "idle_client_cpu_percent", "idle_busy_ring_cpu_percent")
    )
    for transport in TRANSPORTS:
        policy = "balanced" if transport == "flipcall" else None
        labels = Labels(case="idle", transport=transport, policy=policy, load="idle")
        if not effort.wanted(labels):
            continue
        progress(f"{labels}: {effort.idle_seconds} s")
        try:
            client, server = _percents(labels, effort, directory)
        except UnavailableError as error:
            rows.append(Row.labelled(labels, note=str(error)))
            continue
        rows.append(Row.labelled(labels, runs=1, cpu_percent=server))
        if transport == "flipcall":
            found["idle_server_cpu_percent"], found["idle_client_cpu_percent"] = server, client
        elif transport == "busy-ring":
            found["idle_busy_ring_cpu_percent"] = server
    return rows, found


def _percents(labels: Labels, effort: Effort, directory: Path) -> tuple[float | None, float | None]:
    """Of the client and of the server. The clock starts with the last answer, so the spin after it counts too."""
    with EchoCall(labels, Placement.FREE, directory) as idle, idle.awake():
        idle.call()
        before, started = idle.cpu_times(), time.monotonic_ns()
        time.sleep(effort.idle_seconds)
        after, elapsed = idle.cpu_times(), time.monotonic_ns() - started

    def percent(then: int | None, now: int | None) -> float | None:
        return None if then is None or now is None else 100.0 * (now - then) / elapsed

    return percent(before.client, after.client), percent(before.server, after.server)
