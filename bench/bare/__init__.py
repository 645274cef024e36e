"""The C programs: bare primitives, and flipcall's C core without Python, each between two processes."""

from __future__ import annotations

import subprocess
from array import array
from pathlib import Path

import msgspec

from bench.compile import BARE, ROOT, build
from bench.measure import Effort, Sample, percentile
from bench.placement import Placement
from bench.rows import Labels

CORE = ROOT / "flipcall" / "core"
PROTO = ROOT / "proto"

# Far above what any run takes; only a hang reaches it.
TIMEOUT_SECONDS = 120.0


class _Totals(msgspec.Struct, frozen=True):
    """pair.c's first line: the plain loop, in ns."""

    calls: int
    elapsed_ns: int
    client_cpu_ns: int
    server_cpu_ns: int


class BareProgram:
    """One C program, run anew for each sample: it brings both processes, and takes them with it."""

    def __init__(self, program: Path, labels: Labels, placement: Placement, mode: str = "") -> None:
        self.labels = labels
        self._program = program
        self._mode = mode
        self._cpus = placement.cpus

    def run(self, effort: Effort) -> Sample:
        """One run. Raises CalledProcessError with the program's stderr, TimeoutExpired if it hangs."""
        count = effort.spins if self.labels.switch == "spin" else effort.sleeps
        plan = (*self._cpus, max(count // 10, 1), count, count)
        command = [str(self._program), *map(str, plan), *([self._mode] if self._mode else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT_SECONDS)
        head, _, blob = done.stdout.partition(b"\n")
        totals = msgspec.json.decode(head, type=_Totals)
        stamps = array("Q")
        stamps.frombytes(blob)
        ordered = sorted(stamps)
        return Sample(
            p50=percentile(ordered, 0.50),
            p99=percentile(ordered, 0.99),
            mean=totals.elapsed_ns / totals.calls,
            client_cpu=totals.client_cpu_ns / totals.calls,
            server_cpu=totals.server_cpu_ns / totals.calls,
            elapsed=totals.elapsed_ns / totals.calls,
        )


def build_cacheline() -> Path:
    """The bare limit of spinning."""
    return _build("cacheline")


def build_futex() -> Path:
    """The bare cost of wake + wait."""
    return _build("futex")


def build_notify() -> Path:
    """The bare cost of a hand-over by seccomp user notification. Needs Linux 6.6."""
    return build(
        "notify",
        [BARE / "pair.c", BARE / "notify.c"],
        [BARE / "pair.h", CORE / "seccomp_abi.h"],
        [BARE, CORE],
    )


def build_core() -> Path:
    """flipcall's C core, on both sides."""
    sources = sorted(CORE.glob("*.c"))
    headers = [*CORE.glob("*.h"), *PROTO.glob("*.h")]
    return build(
        "core",
        [BARE / "pair.c", BARE / "core.c", *sources],
        [BARE / "pair.h", *sorted(headers)],
        [BARE, CORE, PROTO],
    )


def _build(name: str) -> Path:
    return build(name, [BARE / "pair.c", BARE / f"{name}.c"], [BARE / "pair.h"], [BARE])
