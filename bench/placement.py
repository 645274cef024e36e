"""On which CPUs the two sides run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum


class Placement(Enum):
    """Where the client and the server are put. The values are the rows' labels."""

    FREE = "free"  # not pinned: the scheduler decides
    ONE_CPU = "one-cpu"
    TWO_CPUS = "two-cpus"
    SAME_CPU = "same-cpu"  # not pinned by the bench: the library's own doing, asked for in its policy

    @property
    def cpus(self) -> tuple[int, int]:
        """(client's CPU, server's CPU), -1 for not pinned. UnavailableError if there are too few."""
        if self in (Placement.FREE, Placement.SAME_CPU):
            return -1, -1
        allowed = sorted(os.sched_getaffinity(0))
        if self is Placement.ONE_CPU:
            return allowed[0], allowed[0]
        if len(allowed) < 2:
            raise UnavailableError("needs two CPUs, this process may use one")
        return allowed[0], allowed[1]


class UnavailableError(Exception):
    """This machine cannot run the case; the message says why, and the row repeats it."""


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Run this thread on `cpu` alone, and as before afterwards; -1 changes nothing."""
    if cpu < 0:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
