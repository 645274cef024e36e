"""Plots: what is drawn where, and what cannot be drawn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.compile import ROOT
from bench.plot import PlotError, draw, family_of, panels_of, require
from bench.rows import Labels, Report, Row

MACHINE = {"cpu": "a CPU", "cpus_allowed": 2}


def measured(case: str, **labels: str | int) -> Row:
    """A row with every figure a plot shows."""
    described = msgspec.convert({"case": case, **labels}, Labels)
    return Row.labelled(described, p50_us=5.0, p99_us=50.0, cpu_us_per_call=9.0, runs=1)


def report(*rows: Row) -> Report:
    """A report of a machine that does not exist."""
    return Report(machine=MACHINE, rows=list(rows), ratios={})


SENDRECV = report(
    measured("c_futex", transport="flipcall", switch="futex", placement="two-cpus"),
    measured("c_futex", transport="flipcall", switch="futex"),
    measured("bare_socket", transport="socket"),
    measured("c_same_cpu", transport="flipcall", switch="futex", placement="same-cpu"),
    measured("python_notify", transport="flipcall", switch="notify", policy="frugal", load="busy"),
    Row.labelled(Labels(case="c_swap"), note="not here"),
)
CALL = report(
    measured("typed", transport="flipcall", policy="balanced"),
    measured("typed", transport="busy-ring"),
    measured("typed", transport="socket", load="paced-10ms"),
    measured("typed", transport="flipcall", policy="balanced", load="8-clients"),
    measured("echo", transport="memcpy", size=1 << 20),
    measured("stream", transport="flipcall", policy="balanced"),
    measured("workers", transport="flipcall", policy="balanced", load="2-clients"),
    measured("single", transport="flipcall", policy="balanced"),
    measured("among_1000", transport="flipcall", policy="balanced"),
    Row.labelled(Labels(case="idle", transport="busy-ring", load="idle"), cpu_percent=99.0, runs=1),
)
GOFER = report(measured("open_close", transport="flipcall"), measured("read_1m", transport="direct"))


def test_a_panel_for_each_load_and_pinned_rows_as_marks() -> None:
    """What was not measured is nowhere; a pinned row belongs to the free one of its case and load."""
    panels = panels_of("sendrecv", SENDRECV)
    assert list(panels) == ["Back to back", "CPUs busy with other work"]
    lines = panels["Back to back"]
    assert [line.label for line in lines] == [
        "C core: futex",
        "bare: Unix socket pair",
        "C core: futex, same CPU",
    ]
    assert [row.placement for row in lines[0].pinned] == ["two-cpus"]
    assert not lines[1].pinned


def test_pinned_rows_alone_are_drawn_themselves() -> None:
    """--case '*/one-cpu/*' draws something."""
    panels = panels_of("sendrecv", report(measured("c_futex", placement="one-cpu")))
    assert [line.row.placement for lines in panels.values() for line in lines] == ["one-cpu"]


def test_calls_have_a_panel_for_each_comparison_and_idle_servers_none() -> None:
    """Loads, sizes and crowds apart; a server that nobody asks has no latency to draw."""
    panels = panels_of("call", CALL)
    assert {title: [line.label for line in lines] for title, lines in panels.items()} == {
        "Back to back": ["flipcall balanced", "busy ring"],
        "Pauses of 10 ms": ["Unix socket"],
        "Eight client processes at once": ["flipcall balanced"],
        "1 MiB there and back": ["memcpy"],
        "A stream's item": ["flipcall balanced"],
        "As many workers as clients": ["2 clients"],
        "One of many clients; back to back": ["single client", "among 1,000 connected"],
    }


@pytest.mark.parametrize("suffix", [".svg", ".png"])
@pytest.mark.parametrize(("family", "drawn"), [("sendrecv", SENDRECV), ("call", CALL), ("gofer", GOFER)])
def test_every_family_can_be_drawn(family: str, drawn: Report, suffix: str, tmp_path: Path) -> None:
    """The family is known from the rows; the file is what its name says, with gaps where figures are missing."""
    assert family_of(drawn) == family
    saved, file = tmp_path / "report.json", tmp_path / f"x{suffix}"
    gap = Row.labelled(Labels(case="something"), runs=1)
    saved.write_text(Report(machine=MACHINE, rows=[*drawn.rows, gap], ratios={}).to_json())
    # In a process of its own: matplotlib keeps its fonts open.
    command = [sys.executable, "-m", "bench", "plot", str(saved), str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    head = file.read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if suffix == ".png" else b"<?xml" in head


def test_a_report_without_figures_cannot_be_drawn(tmp_path: Path) -> None:
    """An error that says so, and no file."""
    with pytest.raises(PlotError, match="figures"):
        draw("sendrecv", report(Row.labelled(Labels(case="c_swap"), note="not here")), tmp_path / "x.svg")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an optional extra."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotError, match=r"flipcall\[bench\]"):
        require()
