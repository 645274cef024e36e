"""What the stress programs share: CPUs to stay on, and others that want them too."""

from __future__ import annotations

import os
import signal
from types import TracebackType

SKIP = 77  # exit status of a program that has nothing to run here, and says why


def choose_cpus(count: int) -> int:
    """Stay on the first `count` of the CPUs allowed, all of them for 0; how many that are."""
    allowed = sorted(os.sched_getaffinity(0))
    chosen = allowed[: count or None]
    os.sched_setaffinity(0, chosen)
    return len(chosen)


class Busy:
    """So many processes that only burn CPU time, while the context lasts. They end with this process."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pids: list[int] = []

    def __enter__(self) -> Busy:
        parent = os.getpid()
        for _ in range(self._count):
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                while os.getppid() == parent:
                    for _ in range(100_000):
                        pass
                os._exit(0)
            self._pids.append(pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
