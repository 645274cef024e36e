"""What goes on around the calls: how long the client pauses between two, and what other work there is."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum

from bench.compile import BARE, build
from bench.placement import UnavailableError


class Load(Enum):
    """The values are the rows' labels."""

    BACK_TO_BACK = "back-to-back"
    PACED_1MS = "paced-1ms"
    PACED_10MS = "paced-10ms"
    BUSY = "busy"  # back-to-back, and as many busy loops as CPUs, at normal priority

    @property
    def pause_us(self) -> int:
        """How long the client sleeps before each call, 0 for not at all."""
        return {Load.PACED_1MS: 1_000, Load.PACED_10MS: 10_000}.get(self, 0)

    @property
    def key(self) -> str:
        """Its name inside the name of a ratio."""
        return self.value.replace("-", "_")


@contextmanager
def around(load: Load) -> Iterator[None]:
    """Whatever `load` needs besides the calls. The busy loops die with this process, however it dies."""
    if load is not Load.BUSY:
        yield
        return
    program = build("busy", [BARE / "busy.c"], [BARE / "child.h"], [BARE])
    with ExitStack() as stack:
        for cpu in sorted(os.sched_getaffinity(0)):
            loop = subprocess.Popen([str(program), str(cpu), str(os.getpid())])
            stack.callback(loop.wait)
            stack.callback(loop.kill)
            _wait_running(loop)
        yield


def give_up_priority(pid: int) -> None:
    """Put process `pid` (0: this one) at normal priority: under the busy load everybody is equal.

    A bench is shielded from other work with chrt or nice, which would shield it from the busy loops as well.
    """
    os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, pid, 0)


def scheduling() -> str:
    """This process's class and nice value: what shields it from other work, if anything does."""
    names = {os.SCHED_OTHER: "other", os.SCHED_FIFO: "fifo", os.SCHED_RR: "rr", os.SCHED_BATCH: "batch"}
    policy = os.sched_getscheduler(0)
    priority = os.sched_getparam(0).sched_priority
    level = priority if priority else f"nice {os.getpriority(os.PRIO_PROCESS, 0)}"
    return f"{names.get(policy, policy)} {level}"


def _wait_running(loop: subprocess.Popen[bytes]) -> None:
    """Return when the loop has used CPU time of its own: then it is past its set-up and counts."""
    deadline = time.monotonic() + 10
    clock = (~loop.pid << 3) | 2  # CPUCLOCK_SCHED of that process
    while time.clock_gettime_ns(clock) < 5_000_000:
        if loop.poll() is not None or time.monotonic() > deadline:
            raise UnavailableError(f"a busy loop did not start (status {loop.returncode})")
        time.sleep(0.001)
