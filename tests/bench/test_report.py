"""Rows, ratios, targets, and the table a person reads."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from bench import machine
from bench.report import render
from bench.rows import Labels, Report, Row, ratio
from bench.targets import TARGETS

DESIGN_KEYS = [
    "case", "transport", "switch", "placement", "load", "size",
    "p50_us", "p99_us", "mean_us", "cpu_us_per_call", "calls_per_s", "runs",
]  # fmt: skip


def report(*rows: Row, **ratios: float | None) -> Report:
    """A report of this machine."""
    return Report(machine=machine.describe(), rows=list(rows), ratios=ratios)


def test_a_row_begins_with_the_keys_of_the_design_and_says_null_for_what_does_not_apply() -> None:
    """The twelve keys of design section 9, in order; absent figures are null, not missing."""
    row = Row.labelled(Labels(case="cacheline", switch="spin"), p50_us=0.1, runs=3)
    decoded = msgspec.json.decode(report(row).to_json())
    assert list(decoded) == ["machine", "rows", "ratios"]
    assert list(decoded["rows"][0])[: len(DESIGN_KEYS)] == DESIGN_KEYS
    assert decoded["rows"][0]["transport"] is None
    assert decoded["rows"][0]["placement"] == "free"


def test_a_ratio_of_something_not_measured_is_null() -> None:
    """No row, a row without the figure, and a zero below the line: None each, never an exception."""
    measured = Row.labelled(Labels(case="a"), p50_us=6.0)
    zero = Row.labelled(Labels(case="b"), p50_us=0.0)
    empty = Row.labelled(Labels(case="c"), note="needs two CPUs")
    assert ratio(measured, Row.labelled(Labels(case="d"), p50_us=2.0)) == 3.0
    assert ratio(measured, None) is None
    assert ratio(measured, empty) is None
    assert ratio(measured, zero) is None


@pytest.mark.parametrize(("value", "verdict"), [(1.9, True), (2.0, True), (2.1, False), (None, None)])
def test_a_target_is_met_missed_or_not_measured(value: float | None, verdict: bool | None) -> None:
    """At most 2: the limit itself counts as met."""
    target = next(t for t in TARGETS["sendrecv"] if t.name == "c_spin_over_cacheline")
    assert target.verdict(report(c_spin_over_cacheline=value)) is verdict


def test_a_row_target_is_about_the_row_it_names() -> None:
    """python_spin's target speaks of two CPUs, whatever another placement says."""
    target = next(t for t in TARGETS["sendrecv"] if t.name.startswith("python_spin"))
    free = Row.labelled(Labels(case="python_spin", placement="free"), p50_us=9.0)
    two = Row.labelled(Labels(case="python_spin", placement="two-cpus"), p50_us=0.9)
    assert target.verdict(report(free, two)) is True
    assert target.verdict(report(free)) is None


def test_idle_servers_missing_peers_and_remarks_have_their_lines() -> None:
    """What has no latency is not in the table; a note with figures is a remark, one without a reason."""
    console = Console(file=io.StringIO(), width=200)
    rows = [
        Row.labelled(Labels(case="idle", transport="busy-ring"), cpu_percent=99.5, rss_mib=20.0, runs=1),
        Row.labelled(Labels(case="typed", transport="grpc"), note="needs grpc"),
        Row.labelled(Labels(case="echo", transport="flipcall", size=7), p50_us=1.5, runs=2, note="reused"),
    ]
    render("call", report(*rows), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "idle busy-ring, back-to-back: server 99.5 % of a CPU, 20.0 MiB resident" in text
    assert "not measured: typed grpc, free: needs grpc" in text
    assert "echo back-to-back (flipcall): reused" in text


@pytest.mark.parametrize("family", sorted(TARGETS))
def test_the_table_shows_machine_rows_targets_and_what_could_not_run(family: str) -> None:
    """A report with gaps is rendered whole: the verdicts, and the reason of the row that has no figures."""
    console = Console(file=io.StringIO(), width=200)
    rows = [
        Row.labelled(
            Labels(case="typed", transport="flipcall"), p50_us=2.0, p50_min_us=1.0, p50_max_us=3.0, runs=2
        ),
        Row.labelled(
            Labels(case="cacheline", placement="two-cpus"), note="needs two CPUs, this process may use one"
        ),
    ]
    render(family, report(*rows, c_spin_over_cacheline=3.0, something_else=1.0), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "Linux" in text
    assert "[1.00 … 3.00]" in text
    assert "needs two CPUs" in text
    assert "something_else" in text
    assert ("missed" in text) == (family == "sendrecv")


def test_the_machine_says_what_the_design_asks_for() -> None:
    """Kernel, CPU model and count, virtualisation, clocksource, commit, Python, a clock reading's cost."""
    found = machine.describe()
    wanted = (
        "kernel",
        "cpu",
        "cpus",
        "virtualisation",
        "clocksource",
        "commit",
        "python",
        "clock_overhead_ns",
    )
    assert set(wanted) <= set(found)
    assert found["clock_overhead_ns"] > 0
