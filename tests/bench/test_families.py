"""Each family, run as a user runs it: one JSON object, its rows, its named ratios. No figure is judged."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from bench.compile import ROOT
from bench.rows import Report
from bench.targets import TARGETS

# case, transport, load of the rows an issue or a target speaks of
ROWS = {
    "sendrecv": {
        ("cacheline", "bare", "back-to-back"),
        ("bare_futex", "bare", "back-to-back"),
        ("c_spin", "flipcall", "back-to-back"),
        ("c_futex", "flipcall", "back-to-back"),
        ("python_spin", "flipcall", "back-to-back"),
        ("python_futex", "flipcall", "back-to-back"),
        ("python_balanced", "flipcall", "back-to-back"),
    },
    "call": {
        ("typed", transport, load)
        for transport in ("flipcall", "socket")
        for load in ("back-to-back", "paced-10ms")
    },
    "gofer": {
        (case, transport, "back-to-back")
        for case in ("open_close", "stat", "read_4k", "read_1m")
        for transport in ("flipcall", "socket", "direct")
    },
}

RATIOS = {
    "sendrecv": {"c_spin_over_cacheline", "c_futex_over_bare"},
    "call": {"typed_socket_over_flipcall", "idle_server_cpu_percent"},
    "gofer": {
        "open_socket_over_flipcall",
        "stat_socket_over_flipcall",
        "read_4k_socket_over_flipcall",
        "read_1m_socket_over_flipcall",
    },
}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m bench` in this tree."""
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("family", sorted(ROWS))
def test_json_is_one_object_of_the_agreed_shape(family: str) -> None:
    """Nothing else on stdout; rows as declared; every ratio named by an issue is there and is a number."""
    done = bench(family, "--json", "--quick")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    report = msgspec.json.decode(done.stdout, type=Report, strict=True)
    assert {(row.case, row.transport, row.load) for row in report.rows} == ROWS[family]
    for name in RATIOS[family]:
        assert isinstance(report.ratios[name], float), name
    for row in report.rows:
        assert row.note or (row.p50_us is not None and row.p50_us > 0)
        assert row.note or row.runs == 2
        assert row.placement in ("free", "one-cpu", "two-cpus")
    for target in TARGETS[family]:
        assert target.value_of(report) is not None, target.name


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["call", "--runs", "0"]])
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    """argparse's exit status, its message on stderr, nothing on stdout."""
    done = bench(*arguments)
    assert done.returncode == 2
    assert done.stderr
    assert not done.stdout
