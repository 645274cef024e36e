"""flipcall demo: a typed call between two processes, and what it costs beside the same call over a socket."""

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import click
from rich.table import Table

from .. import cpus, kernel
from .text import console, print_json

ROUNDS = 5  # of each transport, alternating, so that a busy moment of the machine hits both
WARM_UP = 200
START_TIMEOUT_S = 10.0
AWAKE_US = 20.0  # a call quicker than this cannot have woken a sleeping process on another CPU
TRANSPORTS: tuple[Literal["window", "socket"], ...] = ("window", "socket")


@contextmanager
def _server() -> Iterator[str]:
    """A server of Echo in a process of its own; yields its socket. Gone, with its directory, afterwards."""
    with tempfile.TemporaryDirectory(prefix="flipcall-demo-") as directory:
        path = os.path.join(directory, "echo.sock")
        command = [sys.executable, "-m", "flipcall.cli.echo", path]
        # In a session of its own: Ctrl-C is for this process, which then ends the other.
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as process:
            try:
                _wait_for(Path(path), process)
                yield path
            finally:
                process.terminate()


def _wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise click.ClickException(f"the demo's server did not start (exit status {process.returncode})")
        time.sleep(0.005)


def _microseconds(samples_ns: list[int]) -> dict[str, float]:
    ordered = sorted(samples_ns)
    at_99 = ordered[math.ceil(0.99 * len(ordered)) - 1]
    return {
        "p50_us": round(statistics.median(ordered) / 1000, 3),
        "p99_us": round(at_99 / 1000, 3),
        "mean_us": round(statistics.fmean(ordered) / 1000, 3),
    }


def measure(calls: int) -> dict[str, Any]:
    """Make `calls` calls over each transport, alternating in rounds; the document `--json` prints."""
    import flipcall

    from .echo import Echo, Item

    item = Item(7, "sixteen-letters!", bytes(range(64)))
    samples: dict[str, list[int]] = {transport: [] for transport in TRANSPORTS}
    with _server() as path:
        clients = {transport: flipcall.connect(Echo, path, transport=transport) for transport in TRANSPORTS}
        try:
            for client in clients.values():
                for _ in range(WARM_UP):
                    if client.echo(item) != item:
                        raise click.ClickException("the echo came back changed")
            for _ in range(ROUNDS):
                for transport, client in clients.items():
                    call, clock, add = client.echo, time.perf_counter_ns, samples[transport].append
                    for _ in range(max(1, calls // ROUNDS)):
                        start = clock()
                        call(item)
                        add(clock() - start)
        finally:
            for client in clients.values():
                client.close()
    rows = {transport: _microseconds(taken) for transport, taken in samples.items()}
    spins, reason = kernel.spinning_allowed()
    return {
        "calls": len(samples["window"]),
        "transports": rows,
        "socket_over_window": round(rows["socket"]["p50_us"] / rows["window"]["p50_us"], 2),
        "load": os.getloadavg()[0],
        "cpus": cpus.online(),
        "spins": spins,
        "spin_reason": reason,
    }


def _print(found: dict[str, Any]) -> None:
    out = console()
    table = Table("a typed call over", "p50", "p99", "mean", box=None, padding=(0, 2, 0, 0))
    names = {"window": "flipcall (shared memory)", "socket": "Unix socket, same messages"}
    for transport, row in found["transports"].items():
        table.add_row(names[transport], *(f"{row[key]:.1f} µs" for key in ("p50_us", "p99_us", "mean_us")))
    out.print(f"echo(Item) -> Item, two processes, {found['calls']} calls one after the other over each:")
    out.print()
    out.print(table)
    out.print()
    out.print(_verdict(found), soft_wrap=True)
    out.print(f"Spinning: {'yes' if found['spins'] else 'no'}: {found['spin_reason']}.", soft_wrap=True)


def _verdict(found: dict[str, Any]) -> str:
    """What the figures say, also when they speak against flipcall."""
    ratio, median = found["socket_over_window"], found["transports"]["window"]["p50_us"]
    if ratio >= 1:
        compared = f"flipcall is {ratio:.1f} times as fast as the socket here, by the medians."
    else:
        compared = f"flipcall is slower than the socket here: {1 / ratio:.1f} times as long, by the medians."
    if not found["spins"]:
        why = "Nothing spins here: every call wakes a sleeping process, which is most of its cost."
    elif median < AWAKE_US:
        why = "Both sides find the answer while they spin, so the kernel is not asked."
    else:
        load, cpus = found["load"], found["cpus"]
        why = (
            "Most calls had to wake a sleeping process, although spinning is allowed: do other programs use"
            f" the CPUs (load average {load:.1f} on {cpus} CPUs)?"
        )
    return f"{compared} {why}"


@click.command("demo")
@click.option(
    "--calls", type=click.IntRange(min=ROUNDS), default=20_000, show_default=True, help="Over each transport."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def command(calls: int, as_json: bool) -> None:
    """A typed call between two processes, and its latency over flipcall and over a Unix socket."""
    found = measure(calls)
    if as_json:
        print_json(found)
    else:
        _print(found)
