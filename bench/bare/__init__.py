"""The C programs: bare primitives, and flipcall's C core without Python, each between two processes."""

from __future__ import annotations

import subprocess
from array import array
from pathlib import Path

import msgspec

from bench.compile import BARE, ROOT, build
from bench.loads import Load
from bench.measure import Effort, Sample, percentile
from bench.placement import Placement, UnavailableError
from bench.rows import Labels

CORE = ROOT / "flipcall" / "core"
PROTO = ROOT / "proto"

# Far above what any run takes; only a hang reaches it.
TIMEOUT_SECONDS = 120.0
MOST_CALLS = 200_000  # of one loop, however quick they are


class _Totals(msgspec.Struct, frozen=True):
    """pair.c's first line: the plain loop, in ns."""

    calls: int
    elapsed_ns: int
    client_cpu_ns: int
    server_cpu_ns: int


class BareProgram:
    """One C program, run anew for each sample: it brings both processes, and takes them with it."""

    def __init__(
        self,
        program: Path,
        labels: Labels,
        placement: Placement,
        mode: str = "",
        load: Load = Load.BACK_TO_BACK,
    ) -> None:
        self.labels = labels
        self._program = program
        self._mode = mode
        self._cpus = placement.cpus
        self._load = load

    def run(self, effort: Effort) -> Sample:
        """One run. Raises CalledProcessError with the program's stderr, TimeoutExpired if it hangs."""
        pause = self._load.pause_us
        most = effort.paced_calls(pause) if pause else MOST_CALLS
        plan = (*self._cpus, int(effort.seconds * 1e6), most, pause, int(self._load is Load.BUSY))
        command = [str(self._program), *map(str, plan), *([self._mode] if self._mode else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT_SECONDS)
        head, _, blob = done.stdout.partition(b"\n")
        totals = msgspec.json.decode(head, type=_Totals)
        stamps = array("Q")
        stamps.frombytes(blob)
        ordered = sorted(stamps)
        elapsed = totals.elapsed_ns / totals.calls
        return Sample(
            p50=percentile(ordered, 0.50),
            p99=percentile(ordered, 0.99),
            mean=sum(ordered) / len(ordered) if pause else elapsed,
            client_cpu=totals.client_cpu_ns / totals.calls,
            server_cpu=totals.server_cpu_ns / totals.calls,
            elapsed=elapsed,
            stamps=tuple(ordered) if pause else (),
        )


def build_bare(name: str) -> Path:
    """The primitive of bare/NAME.c: cacheline, futex, notify, socketpair. UnavailableError: not there."""
    source = BARE / f"{name}.c"
    if not source.exists():
        raise UnavailableError(f"there is no {source.relative_to(ROOT)} in this tree")
    return build(name, [BARE / "pair.c", source], [*_headers(), *_core_headers()], [BARE, CORE, PROTO])


def build_core() -> Path:
    """flipcall's C core, on both sides."""
    sources = [BARE / "pair.c", BARE / "core.c", BARE / "core_switch.c", *sorted(CORE.glob("*.c"))]
    return build("core", sources, [*_headers(), *_core_headers()], [BARE, CORE, PROTO])


def _headers() -> list[Path]:
    return sorted(BARE.glob("*.h"))


def _core_headers() -> list[Path]:
    return sorted([*CORE.glob("*.h"), *PROTO.glob("*.h")])
