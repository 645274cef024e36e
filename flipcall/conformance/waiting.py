"""Waiting for a state: what a test does instead of sleeping for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.002
PATIENCE_S = 40.0  # for things that take milliseconds; wide, because a loaded machine is slow

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float = PATIENCE_S) -> T:
    """Poll `predicate` until it returns something true, and return that. AssertionError after `timeout` s."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s")
        time.sleep(POLL_S)
    return value
