"""The CPUs this process may use: how many by affinity, how much of them by cgroup, and whether to spin there.

Spinning pays when the other side runs at the same time on another CPU. With one CPU the spinning side keeps
the other from running at all. With a cgroup CPU quota below two it spends, while it spins, the time its peer
(usually in the same container) needs to answer; once the quota of a period is used up both stand still for
the rest of it, up to 100 ms by default. So spinning asks for two whole CPUs by both measures.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

_PROC_SELF = Path("/proc/self")
_ROOT = Path("/")


def allowed() -> frozenset[int]:
    """The CPUs the calling thread may run on, read anew each time: it is what taskset and cpusets change."""
    return frozenset(os.sched_getaffinity(0))


def online() -> int:
    """CPUs that are online on this machine."""
    return os.sysconf("SC_NPROCESSORS_ONLN")


def as_ranges(cpus: frozenset[int]) -> str:
    """CPU numbers as taskset and the kernel write them: {0, 1, 2, 5} is "0-2,5"."""
    parts: list[str] = []
    numbers = sorted(cpus)
    while numbers:
        run = 1
        while run < len(numbers) and numbers[run] == numbers[0] + run:
            run += 1
        parts.append(f"{numbers[0]}" if run == 1 else f"{numbers[0]}-{numbers[run - 1]}")
        numbers = numbers[run:]
    return ",".join(parts)


def quota() -> float | None:
    """CPUs' worth of time the cgroups of this process may use, the smallest of all levels; None: no limit.

    Where the limits stand is looked up once in a process; the limits themselves are read at every call.
    """
    return lowest_quota(_quota_directories())


@functools.cache
def _quota_directories() -> tuple[Path, ...]:
    return quota_directories(_PROC_SELF, _ROOT)


def quota_directories(proc_self: Path, root: Path) -> tuple[Path, ...]:
    """Directories holding the CPU limits of a process, leaf first, for cgroup v2 and for v1's cpu controller.

    proc_self: its directory in /proc; root: what mount points are relative to ("/" but for tests). In a
    container the own cgroup may be hidden behind a mount of a part of the tree: what can be seen is used.
    """
    own: dict[str, str] = {}  # "cgroup2" or "cgroup" -> path of the process's cgroup
    for line in _lines(proc_self / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            own["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            own["cgroup"] = path
    found: list[Path] = []
    for line in _lines(proc_self / "mountinfo"):
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(" "), after.split(" ", 2)
        if kind not in own or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        mounted, mount_point = _unescape(fields[3]), root / _unescape(fields[4]).lstrip("/")
        below = os.path.relpath(own[kind], mounted)
        leaf = mount_point if below.startswith("..") else mount_point / below
        while leaf != mount_point:
            found.append(leaf)
            leaf = leaf.parent
        found.append(mount_point)
    return tuple(found)


def lowest_quota(directories: tuple[Path, ...]) -> float | None:
    """The smallest limit found in `directories`, in CPUs; None when there is none."""
    limits: list[float] = []
    for directory in directories:
        words = " ".join(_lines(directory / "cpu.max")).split()  # v2: "200000 100000" or "max 100000"
        if not words:
            words = [*_lines(directory / "cpu.cfs_quota_us"), *_lines(directory / "cpu.cfs_period_us")]
        if len(words) == 2 and words[0] not in ("max", "-1") and float(words[1]) > 0:
            limits.append(float(words[0]) / float(words[1]))
    return min(limits, default=None)


def _lines(path: Path) -> list[str]:
    """The lines of a file of the kernel's; none when it is not there or not ours to read."""
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _unescape(field: str) -> str:
    """mountinfo writes blanks in paths as \\040 and the like."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), field)


def spinning_allowed() -> tuple[bool, str]:
    """Whether a wait may spin here and now, and why, in words for `flipcall doctor`.

    Costs some ten microseconds: meant for the making of an endpoint, not for a call.
    """
    cpus = allowed()
    if len(cpus) < 2:
        return False, f"only CPU {as_ranges(cpus)} is allowed: a spinning side would stop its peer"
    limit = quota()
    if limit is not None and limit < 2:
        return False, f"the cgroup's quota is {limit:g} CPUs: a spinning side would use up its peer's time"
    share = "no CPU quota" if limit is None else f"a quota of {limit:g} CPUs"
    return True, f"{len(cpus)} CPUs are allowed ({as_ranges(cpus)}), {share}"


def same_cpu_possible() -> tuple[bool, str]:
    """Whether threads may be put on one CPU (WaitPolicy.same_cpu()), and why, in words for `flipcall doctor`."""
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except OSError as error:
        return False, f"sched_setaffinity(2) says {error.strerror}"
    return True, "where both sides ask for it: WaitPolicy.same_cpu(), each thread while it talks"
