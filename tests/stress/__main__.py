"""All stress programs, one after the other: what `make stress` runs.

python -m tests.stress [--seconds N] [--seed S] [PATTERN]

The time is shared out evenly among those that can run here. Ends with the first failure, whose seed is in what it
said.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.stress.matrix import cases, run


def main() -> int:
    parser = argparse.ArgumentParser(description="All stress programs.")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument(
        "--seed", type=int, help="for every program; without it each draws its own and says so"
    )
    parser.add_argument("pattern", nargs="?", default="", help="only those with this in their name")
    options = parser.parse_args()
    chosen = [case for case in cases() if options.pattern in case.name]
    if not chosen:
        parser.error(f"no program has {options.pattern!r} in its name")
    end = time.monotonic() + options.seconds
    skipped = 0
    for i, case in enumerate(chosen):
        # What is skipped takes no time, so the rest share what it leaves.
        seconds = max(1.0, (end - time.monotonic()) / (len(chosen) - i))
        result = run(case, seconds, options.seed)
        print(f"---- {case.name}: {result.verdict}\n{result.said.rstrip()}", flush=True)
        if result.verdict == "failed":
            return 1
        skipped += result.verdict == "skipped"
    print(
        f"---- stress: {len(chosen) - skipped} programs ran without a fault, {skipped} were skipped (see above)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
