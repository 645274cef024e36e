"""A report as one picture: latency beside CPU time, a pair of panels for each load (or operation).

    ● p50 ─── ○ p99     not pinned;  ▲ p50 on one CPU, ▼ p50 on two, where those were measured
    CPU: both sides together, a bar from the left edge of a logarithmic axis; none for a command on a mount

Every panel of a column pair has its contenders in the same order and the same scale, so that panels compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.rows import Report, Row
from bench.style import CONNECTED, colour_of, label_of, panel_of, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRS_ACROSS = 2  # panel pairs side by side
PINNED = {"one-cpu": "^", "two-cpus": "v"}
GREY = "0.55"


class PlotError(Exception):
    """Nothing can be drawn; the message says why."""


class Line(msgspec.Struct, frozen=True):
    """One contender in one panel: where the scheduler was free to choose, and where not."""

    label: str
    row: Row
    pinned: tuple[Row, ...]


def require() -> None:
    """Raises PlotError unless matplotlib is there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise PlotError("a plot needs matplotlib: pip install 'flipcall[bench]'") from None


def family_of(report: Report) -> str:
    """Which family a saved report is of."""
    cases = {row.case for row in report.rows}
    if cases & {"typed", "echo", "idle", *CONNECTED}:
        return "call"
    return "gofer" if "open_close" in cases or "stat" in cases else "sendrecv"


def panels_of(family: str, report: Report) -> dict[str, list[Line]]:
    """What is drawn: by panel title, its lines from the top. Pinned rows are marks on the free one's line."""
    rows = [row for row in report.rows if row.runs and row.cpu_percent is None]  # idle: no call, no latency
    placements = {row.placement for row in rows}
    panels: dict[str, list[Line]] = {}
    for row in rows:
        if row.placement in PINNED and "free" in placements:
            continue
        pinned = tuple(
            other
            for other in rows
            if other is not row
            and other.placement in PINNED
            and (other.case, other.transport, other.policy, other.load, other.size)
            == (row.case, row.transport, row.policy, row.load, row.size)
        )
        panels.setdefault(panel_of(family, row), []).append(Line(label_of(family, row), row, pinned))
    return panels


def draw(family: str, report: Report, file: Path) -> None:
    """Write the picture of `report` to `file`, an SVG or PNG by its name. Raises PlotError."""
    require()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = panels_of(family, report)
    if not panels:
        raise PlotError("the report has no row with figures")
    down = -(-len(panels) // PAIRS_ACROSS)
    across = min(len(panels), PAIRS_ACROSS)
    lengths = [len(lines) for lines in panels.values()]
    heights = [max(lengths[at : at + across]) + 2 for at in range(0, len(lengths), across)]
    with rc_context({"svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8.6 * across, 0.27 * sum(heights) + 0.76 * down + 1.1), layout="constrained")
        figure.suptitle(title_of(family, report), fontsize=11, x=0.01, ha="left")
        used_cpu = [line.row.cpu_us_per_call for lines in panels.values() for line in lines]
        known = [value for value in used_cpu if value]
        scale = min(known, default=1.0) / 3, max(known, default=1.0) * 6  # room for the figures
        every = figure.subplots(
            down, 2 * across, squeeze=False, width_ratios=[3, 1.4] * across, height_ratios=heights
        )
        axes = [ax for line in every for ax in line]
        for (title, lines), latency, cpu in zip(panels.items(), axes[::2], axes[1::2], strict=False):
            _draw_latency(latency, title, lines)
            if any(line.row.cpu_us_per_call for line in lines):
                _draw_cpu(cpu, lines, scale)
            else:  # a command: how much CPU whose process takes for it is not measured
                cpu.set_visible(False)
        for unused in axes[2 * len(panels) :]:
            unused.set_visible(False)
        column = axes[: 2 * len(panels) : 2]
        limits = min(ax.get_xlim()[0] for ax in column), max(ax.get_xlim()[1] for ax in column) * 1.6
        for ax in column:
            ax.set_xlim(limits)
        figure.legend(handles=_legend(report), loc="outside lower left", ncols=5, frameon=False)
        figure.savefig(file, dpi=130)


def _draw_latency(ax: Axes, title: str, lines: Sequence[Line]) -> None:
    what = "time" if lines[0].row.case.startswith("fuse_") else "latency of a call, µs"
    _prepare(ax, lines, f"{title}: {what}")
    for at, line in enumerate(lines):
        row, colour = line.row, colour_of(line.row)
        if row.p50_us is None:
            continue
        for other in line.pinned:
            if other.p50_us is not None:
                ax.plot(other.p50_us, at, PINNED[other.placement], color=GREY, markersize=5, zorder=2)
        if row.p99_us is not None:
            ax.plot([row.p50_us, row.p99_us], [at, at], "-", color=colour, linewidth=1.6, alpha=0.5, zorder=3)
            ax.plot(row.p99_us, at, "o", color=colour, markerfacecolor="white", markersize=5.5, zorder=4)
        ax.plot(row.p50_us, at, "o", color=colour, markersize=6.5, zorder=5)
        _write(ax, row.p50_us, at, above=True)
    ax.margins(x=0.08)


def _draw_cpu(ax: Axes, lines: Sequence[Line], scale: tuple[float, float]) -> None:
    _prepare(ax, lines, "CPU of both, µs a call", latency=False)
    ax.tick_params(labelleft=False)
    for at, line in enumerate(lines):
        used = line.row.cpu_us_per_call
        if used:
            ax.plot(
                [scale[0], used],
                [at, at],
                "-",
                color=colour_of(line.row),
                linewidth=8,
                alpha=0.75,
                solid_capstyle="butt",
            )
            _write(ax, used, at, above=False)
    ax.set_xlim(scale)


def _prepare(ax: Axes, lines: Sequence[Line], title: str, *, latency: bool = True) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.set_title(title, fontsize=9.5, loc="left", fontweight="bold")
    ax.set_xscale("log")
    ax.set_yticks(range(len(lines)), [line.label for line in lines])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.xaxis.set_major_locator(LogLocator(10.0, numticks=12 if latency else 5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    ax.xaxis.set_minor_locator(NullLocator())  # in an SVG, each of a thousand lines takes half a kilobyte
    ax.grid(axis="x", which="major", color="0.85", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    groups = [line.row.case.split("_", 1)[0] for line in lines]
    for at in range(1, len(lines)):
        if groups[at] != groups[at - 1] and groups[at] in ("c", "python"):
            ax.axhline(at - 0.5, color="0.8", linewidth=0.8)


def _tick(value: float) -> str:
    """A power of ten of µs: from a millisecond on in ms, since a figure of six places fills a narrow axis."""
    return f"{value:g}" if value < 1000 else f"{value / 1000:g} ms"


def _write(ax: Axes, value: float, at: int, *, above: bool) -> None:
    text = f"{value:.2g}" if value < 10 else f"{value:,.0f}" if value < 10_000 else f"{value / 1000:,.0f} ms"
    offset = (0.0, 4.5) if above else (3.0, 0.0)
    ax.annotate(
        text,
        (value, at),
        offset,
        textcoords="offset points",
        ha="center" if above else "left",
        va="bottom" if above else "center",
        fontsize=7,
        zorder=6,
    )


def _legend(report: Report) -> list[object]:
    from matplotlib.lines import Line2D

    def mark(shape: str, text: str, colour: str = "black", face: str | None = None) -> object:
        return Line2D(
            [], [], linestyle="", marker=shape, color=colour, markerfacecolor=face or colour, label=text
        )

    marks = [mark("o", "p50 (median of the runs)"), mark("o", "p99", face="white")]
    present = {row.placement for row in report.rows if row.runs}
    if "free" in present:
        names = {"one-cpu": "p50, both pinned to one CPU", "two-cpus": "p50, each pinned to a CPU of its own"}
        marks += [mark(PINNED[name], text, GREY) for name, text in names.items() if name in present]
    return marks
