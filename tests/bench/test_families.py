"""Each family, run as a user runs it: one JSON object, its rows, its named ratios. No figure is judged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.compile import ROOT
from bench.loads import Load
from bench.peers import PEERS
from bench.placement import Placement
from bench.rows import Report
from bench.targets import TARGETS

BARE = ("bare_futex", "bare_notify", "bare_socket")
C_CORE = ("c_futex", "c_notify", "c_swap", "c_same_cpu")
PYTHON = (
    "python_spin",
    "python_balanced",
    "python_futex",
    "python_notify",
    "python_notify_balanced",
    "python_swap",
    "python_same_cpu",
)

# case, transport, load of the rows an issue or a target speaks of
ROWS = {
    "sendrecv": {
        *(
            (case, transport, load)
            for case, transport in (("cacheline", "bare"), ("c_spin", "flipcall"))
            for load in ("back-to-back", "paced-1ms", "paced-10ms")
        ),
        *(
            (case, "socket" if case == "bare_socket" else "bare" if case in BARE else "flipcall", load.value)
            for case in (*BARE, *C_CORE, *PYTHON)
            for load in Load
        ),
    },
    "call": {
        *(("typed", transport, "back-to-back") for transport in (*PEERS, "flipcall-asyncio")),
        *(("workers", "flipcall", load) for load in ("1-clients", "2-clients")),
        *((case, "flipcall", "back-to-back") for case in ("download", "download_into", "download_view")),
        *((case, "flipcall", "back-to-back") for case in ("upload", "upload_filled", "upload_ready")),
        *((case, "memcpy", "back-to-back") for case in ("download", "upload")),
        *(("stream", transport, "back-to-back") for transport in ("flipcall", "socket")),
        *(("typed", transport, "paced-10ms") for transport in ("flipcall", "socket")),
        *(("typed", transport, "8-clients") for transport in ("flipcall", "socket")),
        *(("echo", transport, "back-to-back") for transport in ("flipcall", "socket", "busy-ring", "memcpy")),
        *(("idle", transport, "idle") for transport in ("flipcall", "socket", "busy-ring")),
        ("idle", "flipcall", "1000-clients"),
        *(
            (case, "flipcall", load)
            for case in ("single", "among_1000")
            for load in ("back-to-back", "paced-10ms")
        ),
    },
    "gofer": {
        (case, transport, "back-to-back")
        for case in (
            "open_close",
            "stat",
            "stat_deep",
            "getdents_10000",
            "read_4k",
            "read_1m",
            "read_1m_copied",
        )
        for transport in ("flipcall", "socket", "direct")
    },
}

RATIOS = {
    "sendrecv": {
        "c_spin_over_cacheline",
        "c_futex_over_bare",
        "paced_socket_over_best",
        "paced1ms_p99_futex_over_best",
        "paced1ms_p99_futex_over_best_spinning",
        *(f"balanced_over_best_{load.key}" for load in Load),
        "balanced_over_futex_busy",
    },
    "call": {
        "typed_socket_over_flipcall",
        "clients_8_calls_per_s",
        "paced_flipcall_over_socket",
        "echo_1mib_over_memcpy",
        "download_1mib_view_over_memcpy",
        "upload_1mib_filled_over_memcpy",
        "echo_64kib_socket_over_flipcall",
        "idle_server_cpu_percent",
        "idle_1000_clients_rss_mib",
        "idle_1000_clients_cpu_percent",
        "call_among_1000_over_single",
    },
    "gofer": {
        "open_socket_over_flipcall",
        "stat_socket_over_flipcall",
        "read_4k_socket_over_flipcall",
        "read_1m_socket_over_flipcall",
        "getdents_10000_over_scandir",
        "read_1mib_over_pread_bandwidth",
        "copied_read_over_pread_bandwidth",
    },
}

# What a target cannot do without; where this machine has it not, the ratio is null.
NEEDS = {
    "futex_over_notify": {"c_notify"},
    "notify_over_bare": {"c_notify", "bare_notify"},
    "futex_over_same_cpu": {"c_same_cpu"},
    "typed_grpc_over_flipcall": {"typed grpc"},
    "typed_iceoryx2_over_flipcall": {"typed iceoryx2"},
    "typed_busy_ring_over_flipcall": {"typed busy-ring"},
    "typed_vllm_ring_over_flipcall": {"typed vllm-ring"},
    "echo_1mib_busy_ring_over_flipcall": {"echo busy-ring"},
    "typed p50 (flipcall-asyncio)": {"typed flipcall-asyncio"},
    "workers_2_over_1": {"four CPUs"},
    "donated_read_over_pread_bandwidth": {"read_1m_donated"},
    "fuse_git_status_over_passthrough": {"fuse_git_status"},
    "fuse_tar_over_passthrough": {"fuse_tar"},
}
# Rows that take root or /dev/fuse, and are missing elsewhere.
OPTIONAL = {"read_1m_donated", "fuse_git_status", "fuse_git_status_again", "fuse_tar", "fuse_tar_again"}


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
    rows = {(row.case, row.transport, row.load) for row in report.rows if row.case not in OPTIONAL}
    assert rows == ROWS[family]
    for name in RATIOS[family]:
        assert isinstance(report.ratios[name], float), name
    for row in report.rows:
        assert row.placement in [placement.value for placement in Placement]
        if not row.runs:
            assert row.note
        elif row.case == "idle":
            assert row.cpu_percent is not None
        else:
            assert row.p50_us is not None
            assert row.p50_us > 0
            assert row.runs == 2
    missing = [row for row in report.rows if not row.runs]
    not_here = {row.case for row in missing} | {f"{row.case} {row.transport}" for row in missing}
    if len(os.sched_getaffinity(0)) < 4:
        not_here.add("four CPUs")
    not_here |= OPTIONAL - {row.case for row in report.rows}
    for target in TARGETS[family]:
        needs = NEEDS.get(target.name, set())
        assert (target.value_of(report) is None) == bool(needs & not_here), target.name


@pytest.mark.timeout(150)
def test_only_the_cases_asked_for_are_measured_and_drawn(tmp_path: Path) -> None:
    """--case selects rows, --plot draws them, and the saved report can be drawn again."""
    first, again, saved = tmp_path / "first.svg", tmp_path / "again.png", tmp_path / "report.json"
    done = bench("sendrecv", "--json", "--quick", "--case", "bare_*/free/paced-1ms", "--plot", str(first))
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode(done.stdout, type=Report)
    assert {row.case for row in report.rows} == set(BARE)
    assert {(row.placement, row.load) for row in report.rows} == {("free", "paced-1ms")}
    assert "bare: futex" in first.read_text()
    saved.write_text(done.stdout)
    done = bench("plot", str(saved), str(again))
    assert done.returncode == 0, done.stderr
    assert again.read_bytes().startswith(b"\x89PNG")


def test_a_pattern_that_fits_no_case_is_an_error() -> None:
    """A misspelt name does not measure nothing in silence."""
    done = bench("sendrecv", "--quick", "--case", "c_futx")
    assert done.returncode == 1
    assert "c_futx" in done.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["call", "--runs", "0"], ["call", "--plot", "x.jpeg"], ["plot", "x.json"]]
)
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    """argparse's exit status, its message on stderr, nothing on stdout."""
    done = bench(*arguments)
    assert done.returncode == 2
    assert done.stderr
    assert not done.stdout
