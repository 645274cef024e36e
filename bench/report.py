"""The report as a person reads it: a table, the ratios with their targets, and how to read them."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.rows import Report, Row
from bench.targets import TARGETS

NOTES = {
    "sendrecv": (
        "c_spin_over_cacheline and balanced_over_..._busy compare means (unstamped), balanced_over_best_paced_* "
        "CPU time, ..._p99_... p99; the others p50.",
        "free: not pinned, so the scheduler puts both sides on one CPU or on two, and may change its mind; "
        "same-cpu: the library's own placement.",
        "In brackets the library's presets, balanced the default; C spins without limit or not at all.",
        "Paced: the pause is outside the latency, inside the CPU time; p99 over the calls of all runs together.",
        "busy: a loop on every CPU, at normal priority, as both sides then are. Run by run these have one CPU "
        "(7 µs) or two (1 µs): the median says which happens more often, the mean what it costs.",
    ),
    "call": (
        "Both sides are Python. In brackets the library's presets; balanced is the default.",
        "The two rings and iceoryx2 poll without pause: their servers are stopped while others are measured.",
        "Paced: the pause is outside the latency but inside the CPU time (the client's own sleep too).",
        "idle_server_cpu_percent: a server with one connected client that asks nothing.",
    ),
    "gofer": (
        "direct: the same file operation as a system call of this process, no gofer.",
        "The file is in the page cache; what is compared is the way to it.",
        "1 MiB at a time, the file is read from end to end, again and again.",
        "The gofers are confined as `gofer serve` is.",
    ),
}


def render(family: str, report: Report, console: Console) -> None:
    """Print `report` of `family` on `console`."""
    machine = report.machine
    console.print(Text(_machine_line(report), style="bold"))
    console.print(_rows_table(report.rows))
    for line in [*idle_lines(report.rows), *not_measured(report.rows), *remarks(report.rows)]:
        console.print(Text(line))
    console.print(_ratios_table(family, report))
    notes = [
        "Medians over the runs; [least … most] is the p50's spread. Contenders alternate, run by run.",
        f"p50 and p99: a clock reading around each call, nothing subtracted (Python's costs "
        f"{machine['clock_overhead_ns']:.0f} ns). Mean, calls/s and CPU: loops without readings.",
        "CPU is of both sides together, in µs a call; beside it client + server.",
        *NOTES[family],
    ]
    for note in notes:
        console.print(Text(f"  {note}", style="dim"))


def not_measured(rows: list[Row]) -> list[str]:
    """One line for each case and reason, however many placements and loads it is missing from."""
    missing: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.note and not row.runs:
            name = f"{row.case} {row.transport}" if _has_peers(row) else row.case
            missing.setdefault((name, row.note), []).append(row.placement)
    return [
        f"not measured: {case}, {', '.join(dict.fromkeys(placements))}: {note}"
        for (case, note), placements in missing.items()
    ]


def _has_peers(row: Row) -> bool:
    """Does the case alone not say what was measured?"""
    return row.case in ("typed", "echo", "idle")


def idle_lines(rows: list[Row]) -> list[str]:
    """What idle servers cost: a line each, for such a row has no latency."""
    return [
        f"{row.case} {row.transport}, {row.load}: server {_figure(row.cpu_percent)} % of a CPU"
        + ("" if row.rss_mib is None else f", {_figure(row.rss_mib)} MiB resident")
        for row in rows
        if row.cpu_percent is not None
    ]


def remarks(rows: list[Row]) -> list[str]:
    """The notes of what was measured, each once for all its rows."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row.note and row.runs:
            found.setdefault((row.case, row.load, row.note), []).append(row.transport or "")
    return [
        f"{case} {load} ({', '.join(dict.fromkeys(transports))}): {note}"
        for (case, load, note), transports in found.items()
    ]


def _machine_line(report: Report) -> str:
    m = report.machine
    gil = "" if m["gil"] else " without GIL"
    quota = f", quota {m['cpu_quota']:g} CPUs" if m["cpu_quota"] else ""
    return (
        f"Linux {m['kernel']} {m['architecture']}, {m['cpu']}, "
        f"{m['cpus_allowed']} of {m['cpus']} CPUs{quota}, virtualisation {m['virtualisation']}, "
        f"clocksource {m['clocksource']}, load {m['load_average']}, scheduling {m['scheduling']}, "
        f"{m['implementation']} {m['python']}{gil}, commit {m['commit']}, {m['time']}"
    )


def _rows_table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("case", "transport", "switch (policy)", "placement", "load"):
        table.add_column(name)
    for name in (
        "size",
        "p50 µs",
        "[least … most]",
        "p99 µs",
        "mean µs",
        "CPU µs",
        "client+server",
        "calls/s",
    ):
        table.add_column(name, justify="right")
    table.add_column("runs", justify="right")
    for row in rows:
        if not row.runs or row.cpu_percent is not None:
            continue
        table.add_row(
            row.case,
            row.transport or "",
            f"{row.switch} ({row.policy})" if row.policy else row.switch or "",
            row.placement,
            row.load,
            "" if row.size is None else str(row.size),
            _figure(row.p50_us),
            "" if row.p50_min_us is None else f"\\[{_figure(row.p50_min_us)} … {_figure(row.p50_max_us)}]",
            _figure(row.p99_us),
            _figure(row.mean_us),
            _figure(row.cpu_us_per_call),
            f"{_figure(row.client_cpu_us_per_call)}+{_figure(row.server_cpu_us_per_call)}",
            "" if row.calls_per_s is None else f"{row.calls_per_s:,.0f}",
            str(row.runs),
        )
    return table


def _ratios_table(family: str, report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ratio or target")
    table.add_column("measured", justify="right")
    table.add_column("target", justify="right")
    table.add_column("")
    targets = TARGETS[family]
    for target in targets:
        value = target.value_of(report)
        verdict = {True: "[green]met[/]", False: "[red]missed[/]", None: "not measured"}[
            target.verdict(report)
        ]
        measured = f"{_figure(value)}{target.unit}"
        table.add_row(target.name, measured, f"{target.sense} {target.limit:g}{target.unit}", verdict)
    with_target = {target.name for target in targets}
    for name, value in report.ratios.items():
        if name not in with_target:
            table.add_row(name, _figure(value), "", "")
    return table


def _figure(value: float | None) -> str:
    """Three significant digits, never an exponent."""
    if value is None:
        return "–"
    if value < 9.995:
        return f"{value:.2f}" if value >= 0.9995 or value == 0 else f"{value:.3f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"
