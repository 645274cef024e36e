"""Wait policies under load, side by side: ``python -m bench.waits [LOAD ...]``, the experiment behind WaitPolicy.

Runs the policies in alternation on each load and prints the medians: p50 and p99 of a call, and the CPU time both
sides spend per call. It measures the C core (bare/waits.c); `python -m bench sendrecv` measures the library.
On a shared machine, shield the quiet loads with ``chrt -f 10`` or ``nice -n -20``; never the busy ones.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import msgspec

from bench.bare import CORE, PROTO
from bench.compile import BARE, CompileError, build
from bench.measure import alternate
from bench.policies import policy_named
from flipcall.policy import FREE, WaitPolicy

POLICIES: tuple[str, ...] = ("latency", "balanced", "frugal", "same-cpu")


class Load(msgspec.Struct, frozen=True):
    """What happens around the calls: the client's pause between two, the server's work on each, other work."""

    pause_us: int = 0
    service_ns: int = 0
    busy_loops: int = 0  # processes that only count, at normal priority; negative: one for each CPU
    least_seconds: float = 0.0


LOADS = {
    "back-to-back": Load(),
    "work5us": Load(service_ns=5_000),
    "work20us": Load(service_ns=20_000),
    "work100us": Load(service_ns=100_000),
    "paced100us": Load(pause_us=100, least_seconds=0.2),
    "paced1ms": Load(pause_us=1_000, least_seconds=0.3),
    "paced10ms": Load(pause_us=10_000, least_seconds=1.0),
    "busy": Load(busy_loops=-1),
    "busy-work5us": Load(service_ns=5_000, busy_loops=-1),
    "half-busy": Load(busy_loops=1),
}


class Side(msgspec.Struct, frozen=True):
    """One side of one run. cpu_ns: per call; the rest: counts of waits (struct fc_stats)."""

    cpu_ns: float
    paid: int
    lost: int
    parks: int
    skipped: int


class Run(msgspec.Struct, frozen=True):
    """One run of one policy. Times in ns."""

    calls: int
    p50: float
    p99: float
    mean: float
    client: Side
    server: Side

    @property
    def cpu(self) -> float:
        """CPU time of both sides per call, ns."""
        return self.client.cpu_ns + self.server.cpu_ns


def build_waits() -> Path:
    """The C program."""
    headers = [*CORE.glob("*.h"), *PROTO.glob("*.h")]
    return build("waits", [BARE / "waits.c", *sorted(CORE.glob("*.c"))], sorted(headers), [CORE, PROTO])


@contextmanager
def busy(program: Path, loops: int) -> Iterator[None]:
    """Keep CPUs busy meanwhile. The loops die with this process, however it dies."""
    count = len(os.sched_getaffinity(0)) if loops < 0 else loops
    running = [subprocess.Popen([str(program), "busy"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def run_once(program: Path, policy: str, load: Load, seconds: float) -> Run:
    """`policy` is a preset, or SPIN_NS,ADAPTIVE,YIELDS as numbers."""
    follow = "0"
    if policy[0].isdigit():
        numbers = policy.split(",")
    else:
        how = WaitPolicy.same_cpu() if policy == "same-cpu" else policy_named(policy)
        follow = str(int(how.placement != FREE))
        numbers = [
            str(int(n)) for n in (how.spin_ns, how.adaptive, how.yields if how.placement != FREE else 0)
        ]
    length = str(max(seconds, load.least_seconds))
    arguments = [*numbers, str(load.pause_us), str(load.service_ns), length, follow]
    done = subprocess.run([str(program), *arguments], stdout=subprocess.PIPE, check=True, timeout=60)
    return msgspec.json.decode(done.stdout, type=Run)


def measure(program: Path, name: str, policies: list[str], runs: int, seconds: float) -> dict[str, list[Run]]:
    """All policies in alternation on one load."""
    load = LOADS[name]
    taken: dict[str, list[Run]] = {policy: [] for policy in policies}
    with busy(program, load.busy_loops):
        for _, policy in alternate(policies, runs):
            taken[policy].append(run_once(program, policy, load, seconds))
    return taken


def report(name: str, taken: dict[str, list[Run]]) -> Iterator[str]:
    """The table of one load. The last column is per side: of all waits, % that were spun for and paid, that were
    spun for in vain, and that slept.
    """
    headings = ("p50 µs", "p99 µs", "mean µs", "CPU µs")
    yield " ".join([f"{name:14} {'policy':>12}", *(f"{h:>9}" for h in headings), "  paid/lost/parks"])
    for policy, runs in taken.items():
        figures = [median(getattr(run, key) for run in runs) / 1000 for key in ("p50", "p99", "mean", "cpu")]
        shares = (_shares(runs, "client"), _shares(runs, "server"))
        yield " ".join([f"{'':14} {policy:>12}", *(f"{figure:9.2f}" for figure in figures), " ", *shares])


def _shares(runs: list[Run], side: str) -> str:
    calls = sum(run.calls for run in runs)
    counts = [sum(getattr(getattr(run, side), key) for run in runs) for key in ("paid", "lost", "parks")]
    return "/".join(f"{100 * count / calls:.0f}" for count in counts)


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.waits", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("loads", nargs="*", metavar="LOAD", help=f"{', '.join(LOADS)} (default: all)")
    parser.add_argument("--policy", action="append", help="a preset, or SPIN_NS,ADAPTIVE,YIELDS; repeatable")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.1, help="of one run")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.loads) - set(LOADS):
        parser.error(f"no such load: {', '.join(sorted(unknown))}")
    try:
        program = build_waits()
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    for name in chosen.loads or LOADS:
        policies = chosen.policy or list(POLICIES)
        for line in report(name, measure(program, name, policies, chosen.runs, chosen.seconds)):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
