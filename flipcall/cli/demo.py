"""flipcall demo: a typed call between two processes, and what it costs beside the same call over a socket."""

import os
from functools import partial
from typing import Any

import click
from rich.table import Table

from .. import cpus, kernel
from .measure import ROUNDS, TRANSPORTS, WARM_UP, echo_server, microseconds, stamped
from .text import console, print_json

AWAKE_US = 20.0  # a call quicker than this cannot have woken a sleeping process on another CPU


def measure(calls: int) -> dict[str, Any]:
    """Make `calls` calls over each transport, alternating in rounds; the document `--json` prints."""
    import flipcall

    from .echo import Echo, Item

    item = Item(7, "sixteen-letters!", bytes(range(64)))
    samples: dict[str, list[int]] = {transport: [] for transport in TRANSPORTS}
    with echo_server() as path:
        clients = {transport: flipcall.connect(Echo, path, transport=transport) for transport in TRANSPORTS}
        try:
            for client in clients.values():
                for _ in range(WARM_UP):
                    if client.echo(item) != item:
                        raise click.ClickException("the echo came back changed")
            for _ in range(ROUNDS):
                for transport, client in clients.items():
                    samples[transport] += stamped(partial(client.echo, item), max(1, calls // ROUNDS))
        finally:
            for client in clients.values():
                client.close()
    rows = {transport: microseconds(taken) for transport, taken in samples.items()}
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
