"""flipcall bench: request and response on this machine, over a window and over a Unix socket, in alternation.

Each call is stamped by itself, which adds a clock reading to it (its cost is in the machine's line); the CPU time
is that of both processes, with the stamps, the loop and, of paced calls, the pauses' own.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import click
from rich.table import Table

from ..errors import CallError
from ..policy import WaitPolicy, waits
from ..status import Status
from . import remote
from .doctor import examine
from .measure import ROUNDS, TRANSPORTS, WARM_UP, echo_server, microseconds, stamped
from .text import console, print_json

PAUSE_S = 0.01
BACK_TO_BACK, PACED = "back-to-back", "paced-10ms"


class _Contender:
    """A client over one transport, and what its calls have taken so far. server: its process, 0 if not visible."""

    def __init__(self, transport: str, client: Any, call: Callable[[], object]) -> None:
        connection = client._flipcall
        (channel,) = connection.pool.channels()
        self.transport = "flipcall" if transport == "window" else "unix-socket"
        self.switch = channel.endpoint.switch if transport == "window" else None
        self._server = connection.peer_pid
        self._call = call
        self._samples: dict[str, list[int]] = {BACK_TO_BACK: [], PACED: []}
        self._cpu_ns = {BACK_TO_BACK: [0, 0], PACED: [0, 0]}
        stamped(call, WARM_UP)

    def run(self, load: str, calls: int) -> None:
        before = self._cpu()
        self._samples[load] += stamped(self._call, calls, PAUSE_S if load == PACED else 0.0)
        for side, (then, now) in enumerate(zip(before, self._cpu(), strict=True)):
            self._cpu_ns[load][side] += now - then

    def _cpu(self) -> tuple[int, int]:
        # The clock's number as clock_getcpuclockid(3) makes it. No clock, no time: the row then says so.
        server = time.clock_gettime_ns((~self._server << 3) | 2) if self._server else 0
        return time.process_time_ns(), server

    def row(self, case: str, load: str) -> dict[str, Any]:
        """As one of `python -m bench`."""
        samples = self._samples[load]
        client, server = (round(ns / 1000 / len(samples), 3) for ns in self._cpu_ns[load])
        figures = microseconds(samples)
        return {
            "case": case, "transport": self.transport, "switch": self.switch, "policy": "balanced",
            "placement": WaitPolicy.balanced().placement, "load": load, "size": None, **figures,
            "cpu_us_per_call": round(client + server, 3) if self._server else None,
            "client_cpu_us_per_call": client, "server_cpu_us_per_call": server if self._server else None,
            "calls_per_s": round(1e6 / figures["mean_us"]) if load == BACK_TO_BACK else None,
            "calls": len(samples), "runs": ROUNDS,
        }  # fmt: skip


def _contenders(stack: ExitStack, path: str | None) -> Iterator[_Contender]:
    """Over each transport the server has: of Echo, or for a server at `path` of its health service."""
    from ..health import Health
    from .echo import Echo, Item

    item = Item(7, "sixteen-letters!", bytes(range(64)))
    at = stack.enter_context(echo_server()) if path is None else path
    for transport in TRANSPORTS:
        try:
            options = {"transport": transport, "max_channels": 1}
            client: Any = stack.enter_context(remote.typed(Echo if path is None else Health, at, **options))
        except CallError as e:
            if transport == "window" or e.status is not Status.FAILED_PRECONDITION:
                raise
            continue  # it was told to serve the other one alone
        yield _Contender(transport, client, partial(client.echo, item) if path is None else client.check)


def measure(path: str | None, calls: int, paced: int) -> dict[str, Any]:
    """Make so many calls of both kinds over each transport; the document `--json` prints."""
    case = "typed" if path is None else "health"
    with ExitStack() as stack:
        contenders = list(_contenders(stack, path))
        for load, times in (BACK_TO_BACK, calls), (PACED, paced):
            for _ in range(ROUNDS):
                for contender in contenders:
                    contender.run(load, max(1, times // ROUNDS))
        rows = [c.row(case, load) for load in (BACK_TO_BACK, PACED) for c in contenders]
    doctor = examine()
    limit = waits(WaitPolicy.balanced()).spin_ns
    machine = {**doctor["machine"], "load_average": round(os.getloadavg()[0], 2), "spin_ns": limit}
    machine["clock_ns"] = microseconds(stamped(lambda: None, 2000))["p50_us"] * 1000
    return {"machine": machine, "rows": rows, "ratios": _ratios(case, rows)}


def _ratios(case: str, rows: list[dict[str, Any]]) -> dict[str, float]:
    p50 = {(row["load"], row["transport"]): row["p50_us"] for row in rows}
    loads = {f"{case}_socket_over_flipcall": BACK_TO_BACK, "paced_socket_over_flipcall": PACED}
    return {
        name: round(p50[load, "unix-socket"] / p50[load, "flipcall"], 2)
        for name, load in loads.items()
        if (load, "unix-socket") in p50
    }


def _print(found: dict[str, Any]) -> None:
    out, m = console(), found["machine"]
    spins = f"spins up to {m['spin_ns'] / 1000:g} µs" if m["spin_ns"] else "does not spin"
    out.print(
        f"Linux {m['kernel']} {m['architecture']}, {len(m['cpus_allowed'])} of {m['cpus_online']} CPUs, load"
        f" {m['load_average']}, Python {m['python']}; placement free, policy balanced, which {spins} here;"
        f" a stamp costs {m['clock_ns']:.0f} ns",
        soft_wrap=True,
    )
    table = Table("case", "over", "switch", "load", box=None, padding=(0, 2, 0, 0))
    for heading in ("p50 µs", "p99 µs", "CPU µs a call", "client", "server", "calls"):
        table.add_column(heading, justify="right")
    for row in found["rows"]:
        cpu = [row[f"{side}cpu_us_per_call"] for side in ("", "client_", "server_")]
        shown = ["?" if us is None else f"{us:.1f}" for us in (row["p50_us"], row["p99_us"], *cpu)]
        words = [row["case"], row["transport"], row["switch"] or "", row["load"]]
        table.add_row(*words, *shown, str(row["calls"]))
    out.print(table)
    for name, ratio in found["ratios"].items():
        out.print(f"{name}: {ratio:g}")


@click.command("bench")
@click.argument("path", type=click.Path(), required=False)
@click.option("--calls", type=click.IntRange(min=ROUNDS), default=20_000, show_default=True)
@click.option("--paced", type=click.IntRange(min=ROUNDS), default=200, show_default=True, metavar="CALLS")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def command(path: str | None, calls: int, paced: int, as_json: bool) -> None:
    """Typed calls between two processes over flipcall and over a Unix socket: --calls without pause, then --paced,
    one every 10 ms; latency and CPU time.

    With PATH they are calls of the health service of the server there, over what transports it has.
    """
    found = measure(path, calls, paced)
    (print_json if as_json else _print)(found)
