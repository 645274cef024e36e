"""What machine a figure comes from."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.compile import ROOT
from bench.loads import scheduling
from flipcall import cpus


def describe() -> dict[str, Any]:
    """The machine object of a report; None for what cannot be found out here."""
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)),
        "cpu_quota": cpus.quota(),
        "virtualisation": _virtualisation(),
        "clocksource": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "load_average": round(os.getloadavg()[0], 2),
        "scheduling": scheduling(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "commit": _commit(),
        "clock_overhead_ns": clock_overhead_ns(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def clock_overhead_ns(readings: int = 2001) -> float:
    """The median distance of two consecutive clock readings: what a stamped latency has besides the call."""
    clock = time.perf_counter_ns
    distances = []
    for _ in range(readings):
        before = clock()
        distances.append(clock() - before)
    return float(sorted(distances)[readings // 2])


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip() or None
    except OSError:
        return None


def _cpu_model() -> str | None:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "cpu model"):
            return value.strip()
    return None


def _virtualisation() -> str:
    """What systemd-detect-virt calls it, else what the CPU says of itself."""
    found = _output("systemd-detect-virt", "--vm")
    if found:
        return found
    flags = next(
        (line for line in (_read("/proc/cpuinfo") or "").splitlines() if line.startswith("flags")), ""
    )
    return "unknown hypervisor" if " hypervisor" in flags else "none"


def _commit() -> str | None:
    """The commit of this source tree, with ``-dirty`` if the tree differs from it."""
    return _output("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
