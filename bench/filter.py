"""What the seccomp filter of the notify switch costs every system call: ``python -m bench.filter``.

Two processes in alternation, one with the filter and one without, each timing calls that do next to nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from bench.bare import CORE, PROTO
from bench.compile import BARE, CompileError, build
from bench.measure import alternate

CALLS = ("getuid", "getppid")  # one that the filter never sees, and the one it looks at
UNAVAILABLE = 77


def report(taken: dict[bool, list[list[float]]]) -> Iterator[str]:
    """Medians over the runs, ns a call."""
    yield f"{'ns a call':10} {'no filter':>10} {'filter':>10} {'added':>8}"
    for index, call in enumerate(CALLS):
        without, within = (median(run[index] for run in taken[has]) for has in (False, True))
        yield f"{call:10} {without:10.1f} {within:10.1f} {within - without:8.1f}"


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.filter", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--calls", type=int, default=200_000, help="of one run")
    chosen = parser.parse_args(arguments)
    headers = [*CORE.glob("*.h"), *PROTO.glob("*.h")]
    taken: dict[bool, list[list[float]]] = {False: [], True: []}
    try:
        sources = [BARE / "filter.c", *sorted(CORE.glob("*.c"))]
        program = build("filter", sources, sorted(headers), [CORE, PROTO])
        for _, has in alternate([False, True], chosen.runs):
            command = [str(program), str(chosen.calls), str(int(has))]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=60)
            if done.returncode == UNAVAILABLE:
                print("skipped: this kernel has no notify switch (flipcall doctor says why)")
                return 0
            done.check_returncode()
            taken[has].append([float(line) for line in done.stdout.split()])
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    for line in report(taken):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
