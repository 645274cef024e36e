"""What `demo` and `bench` share: a server of Echo in a process of its own, and stamped calls."""

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click

ROUNDS = 5  # of each transport, alternating, so that a busy moment of the machine hits both
WARM_UP = 200
START_TIMEOUT_S = 10.0
TRANSPORTS: tuple[Literal["window", "socket"], ...] = ("window", "socket")


@contextmanager
def echo_server() -> Iterator[str]:
    """A server of Echo in a process of its own; yields its socket. Gone, with its directory, afterwards."""
    with tempfile.TemporaryDirectory(prefix="flipcall-demo-") as directory:
        path = os.path.join(directory, "echo.sock")
        command = [sys.executable, "-m", "flipcall.cli.echo", path]
        # In a session of its own: Ctrl-C is for this process, which then ends the other.
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as process:
            try:
                _wait_for(Path(path), process)
                yield path
            finally:
                process.terminate()


def _wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise click.ClickException(f"the echo server did not start (exit status {process.returncode})")
        time.sleep(0.005)


def stamped(call: Callable[[], object], times: int, pause_s: float = 0.0) -> list[int]:
    """What each of so many calls takes, ns; the pause before each is no part of it."""
    clock, samples = time.perf_counter_ns, []
    for _ in range(times):
        if pause_s:
            time.sleep(pause_s)
        start = clock()
        call()
        samples.append(clock() - start)
    return samples


def microseconds(samples_ns: list[int]) -> dict[str, float]:
    """Median, 99th percentile (the nearest rank) and mean, as rows show them."""
    ordered = sorted(samples_ns)
    at_99 = ordered[math.ceil(0.99 * len(ordered)) - 1]
    return {
        "p50_us": round(statistics.median(ordered) / 1000, 3),
        "p99_us": round(at_99 / 1000, 3),
        "mean_us": round(statistics.fmean(ordered) / 1000, 3),
    }
