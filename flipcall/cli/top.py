"""flipcall top: what a server does, live: calls, times, and how its channels wait, per client."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from . import remote
from .text import console, print_json, print_json_line, printable

if TYPE_CHECKING:
    from ..stats import ServerStats, Statistics

_NONE = "–"
_WINDOW = 1 << 22  # bytes: a thousand channels are described in some 200 KiB


def rates(before: "ServerStats", now: "ServerStats") -> dict[str, Any]:
    """What happened between two readings, as the document `--json` prints."""
    from ..meter import Counts
    from ..stats import method_stats

    seconds = max(now.uptime_s - before.uptime_s, 1e-9)
    earlier = {m.name: m.counts for m in before.methods}
    methods = []
    for method in now.methods:
        recent = method_stats(method.name, method.counts.since(earlier.get(method.name, Counts())))
        methods.append(
            {
                "name": method.name,
                "calls": method.counts.calls,
                "errors": method.counts.errors,
                "calls_per_s": recent.counts.calls / seconds,
                "errors_per_s": recent.counts.errors / seconds,
                "bytes_in_per_s": recent.counts.bytes_in / seconds,
                "bytes_out_per_s": recent.counts.bytes_out / seconds,
                "mean_us": recent.mean_us,
                "p50_us": recent.p50_us,
                "p99_us": recent.p99_us,
            }
        )
    return {
        "service": now.service,
        "pid": now.pid,
        "uptime_s": now.uptime_s,
        "seconds": seconds,
        "metered": now.metered,
        "calls_per_s": sum(m["calls_per_s"] for m in methods),
        "errors_per_s": sum(m["errors_per_s"] for m in methods),
        "channels": len(now.channels),
        "methods": sorted(methods, key=lambda m: (-m["calls_per_s"], m["name"])),
        "clients": _clients(before, now, seconds),
    }


def _clients(before: "ServerStats", now: "ServerStats", seconds: float) -> list[dict[str, Any]]:
    """The channels by client process, those that call most first."""
    earlier = _by_pid(before)
    found = []
    for pid, channels in _by_pid(now).items():
        old = earlier.get(pid, [])

        def rate(of: Any, channels: Any = channels, old: Any = old) -> float:
            # A channel that has ended meanwhile takes its counts along: no rate is below nothing.
            return max(0.0, float(sum(map(of, channels)) - sum(map(of, old)))) / seconds

        wakes, skipped = rate(lambda c: c.waits.wakes), rate(lambda c: c.waits.wakes_skipped)
        found.append(
            {
                "pid": pid,
                "uid": channels[0].uid,
                "command": _command(pid),
                "channels": len(channels),
                "transport": channels[0].transport,
                "switch": channels[0].switch,
                "doing": {d: sum(c.doing == d for c in channels) for d in ("serving", "spinning", "parked")},
                "calls_per_s": rate(lambda c: c.calls),
                "errors_per_s": rate(lambda c: c.errors),
                "busy": rate(lambda c: c.busy_ns) / 1e9,
                "parks_per_s": rate(lambda c: c.waits.parks),
                "wakes_per_s": wakes,
                "wakes_skipped": skipped / (wakes + skipped) if wakes + skipped else None,
            }
        )
    return sorted(found, key=lambda c: (-c["calls_per_s"], c["pid"]))


def _by_pid(stats: "ServerStats") -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for channel in stats.channels:
        found.setdefault(channel.pid, []).append(channel)
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _readings(statistics: "Statistics", interval: float) -> Iterator[dict[str, Any]]:
    """What happened in each interval, as it ends."""
    before = statistics.read()
    while True:
        time.sleep(interval)
        now = statistics.read()
        yield rates(before, now)
        before = now


def _rate(value: float) -> str:
    """A rate in at most six characters."""
    for unit in ("", "k", "M", "G"):
        if value < 9999.5:
            return f"{value:.0f}{unit}" if value >= 100 or value == 0 or not unit else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.0f}T"


def _time(us: float | None) -> str:
    if us is None:
        return _NONE
    for unit in ("µs", "ms"):
        if us < 999.5:
            return f"{us:.3g} {unit}"
        us /= 1000
    return f"{us:.3g} s"


def _screen(found: dict[str, Any]) -> RenderableType:
    """The tables of one reading."""
    head = Text.assemble(
        (printable(found["service"]) or "?", "bold"),
        f"  pid {found['pid']}  up {_duration(found['uptime_s'])}  "
        f"{len(found['clients'])} clients, {found['channels']} channels  ",
        (f"{_rate(found['calls_per_s'])} calls/s", "bold green"),
        "  ",
        (f"{_rate(found['errors_per_s'])} errors/s", "bold red" if found["errors_per_s"] else "dim"),
    )
    methods = Table(box=None, padding=(0, 2, 0, 0), header_style="bold cyan")
    methods.add_column("method", no_wrap=True)
    for heading in ("calls/s", "errors/s", "p50", "p99", "in B/s", "out B/s", "calls"):
        methods.add_column(heading, justify="right", no_wrap=True)
    for m in found["methods"]:
        methods.add_row(
            printable(m["name"]),
            _rate(m["calls_per_s"]),
            Text(_rate(m["errors_per_s"]), "red" if m["errors_per_s"] else "dim"),
            _time(m["p50_us"]),
            _time(m["p99_us"]),
            _rate(m["bytes_in_per_s"]),
            _rate(m["bytes_out_per_s"]),
            _rate(m["calls"]),
        )
    clients = Table(box=None, padding=(0, 2, 0, 0), header_style="bold cyan")
    clients.add_column("client", no_wrap=True)
    for heading in (
        "calls/s",
        "busy",
        "channels",
        "serving",
        "spinning",
        "parked",
        "parks/s",
        "wakes/s",
        "skipped",
    ):
        clients.add_column(heading, justify="right", no_wrap=True)
    clients.add_column("switch", no_wrap=True)
    for c in found["clients"]:
        skipped = c["wakes_skipped"]
        clients.add_row(
            f"{c['pid']} {printable(c['command'])}",
            _rate(c["calls_per_s"]),
            f"{c['busy']:.0%}",
            str(c["channels"]),
            *(str(c["doing"][d] or _NONE) for d in ("serving", "spinning", "parked")),
            _rate(c["parks_per_s"]),
            _rate(c["wakes_per_s"]),
            _NONE if skipped is None else f"{skipped:.0%}",
            c["switch"] or c["transport"],
        )
    unmetered = [] if found["metered"] else [Text("this server does not count its methods' calls", "yellow")]
    return Group(head, Text(""), *unmetered, methods, Text(""), clients)


def _duration(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    return f"{days} d {h:02}:{m:02}:{s:02}" if days else f"{h:02}:{m:02}:{s:02}"


@click.command("top")
@click.argument("path", type=click.Path())
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long each reading lasts.",
)
@click.option("--once", is_flag=True, help="One reading, then end.")
@click.option("--json", "as_json", is_flag=True, help="A JSON document for each reading, one a line.")
def command(path: str, interval: float, once: bool, as_json: bool) -> None:
    """What the server at the socket PATH does, live: calls/s, p50, p99 by method; waits by client. Ctrl-C ends it.

    Times are the server's own, from a request's coming to its answer's going. busy is the share of the time in
    which a client's calls were being answered; skipped, of the wakes that were not needed because the client was
    awake.
    """
    from ..stats import Statistics

    with remote.typed(Statistics, path, window_size=_WINDOW) as statistics:
        readings = _readings(statistics, interval)
        if once:
            found = next(readings)
            print_json(found) if as_json else console().print(_screen(found))
            return
        try:
            _follow(readings, as_json)
        except KeyboardInterrupt:  # the ordinary end of it
            return


def _follow(readings: Iterator[dict[str, Any]], as_json: bool) -> None:
    out = console()
    if as_json or not out.is_terminal:
        for found in readings:
            print_json_line(found) if as_json else out.print(_screen(found), "")
        return
    with Live(Text("reading …"), console=out, screen=True, auto_refresh=False) as live:
        for found in readings:
            live.update(_screen(found), refresh=True)
