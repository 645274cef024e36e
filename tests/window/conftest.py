"""What every window test has: a private name, and the promise that nothing is left behind."""

import gc
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_numbers = itertools.count()


def _left_behind() -> tuple[int, list[str], int]:
    """Open descriptors, names in /dev/shm, and mappings, of this process and of windows alone."""
    gc.collect()
    names = sorted(p.name for p in Path("/dev/shm").iterdir() if f".t{os.getpid()}-" in p.name)
    maps = Path("/proc/self/maps").read_text().splitlines()
    windows = sum("memfd:flipcall" in line or "/dev/shm/flipcall" in line for line in maps)
    return len(os.listdir("/proc/self/fd")), names, windows


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    """Fail a test that leaves a descriptor, a name or a mapping."""
    before = _left_behind()
    yield
    assert _left_behind() == before


@pytest.fixture
def name() -> str:
    """A window name no other test or run uses."""
    return f"t{os.getpid()}-{next(_numbers)}"
