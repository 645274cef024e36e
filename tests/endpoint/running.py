"""What the endpoint tests share: a verb under way in a thread, its moments, and pairs of every kind of window."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from flipcall.lowlevel import Endpoint, Side, State, WaitPolicy
from flipcall.testing import Pair, pair, until_parked
from tests.support import PATIENCE_S, wait_until

KINDS = ("memfd", "named")
# How long a wait takes to be where the test wants it: for ever, in each of the two ways.
POLICIES = {"parked": WaitPolicy.frugal(), "spinning": WaitPolicy(spin_ns=10**12, adaptive=False)}
# What waits, and the side that does.
WAITS = ("connect", "recv_first", "send_recv", "recv")

# What ends a wait is then the event itself, not a look round after 50 ms; a test that hangs still ends.
LONG_SLICE_NS = 10**10

_names = count()


class Running:
    """A verb in a thread of its own. `error()` or `result()` once it has returned."""

    def __init__(self, verb: Callable[..., Any], *args: Any, **options: Any) -> None:
        self._result: Any = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._result = verb(*args, **options)
            except BaseException as e:
                self._error = e

        self._thread = threading.Thread(target=run, name="flipcall-test", daemon=True)
        self._thread.start()

    def _join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the wait goes on"

    def result(self) -> Any:
        self._join()
        if self._error is not None:
            raise self._error
        return self._result

    def error(self) -> BaseException:
        self._join()
        assert self._error is not None, f"it returned {self._result}"
        return self._error


def new_name() -> str:
    """A window's name that no other test uses."""
    return f"endpoint-{os.getpid()}-{next(_names)}"


def make_pair(kind: str = "memfd", moment: str = "parked", *, connected: bool = True, **options: Any) -> Pair:
    """A pair over a window of `kind` whose waits are in `moment`."""
    name = new_name() if kind == "named" else None
    return pair(name=name, policy=POLICIES[moment], connected=connected, **options)


@contextmanager
def waiting(verb: str, kind: str, moment: str) -> Iterator[tuple[Endpoint, Endpoint, Running]]:
    """`verb` under way in a thread, asleep or spinning: its endpoint, the other one, and the thread."""
    with make_pair(kind, moment, connected=verb in ("send_recv", "recv")) as both:
        mine, other = both.client, both.server
        if verb in ("recv_first", "recv"):
            mine, other = other, mine
        mine.core()[0].slice_ns = LONG_SLICE_NS
        running = Running(getattr(mine, verb), *([3] if verb == "send_recv" else []))
        until_waiting(mine, moment)
        try:
            yield mine, other, running
        finally:
            mine.shutdown()
            running._join()


def until_waiting(endpoint: Endpoint, moment: str) -> None:
    """Return when a thread waits in `endpoint`: in the kernel, or where it would spin."""
    wait_until(lambda: endpoint.state is State.WAITING and endpoint.core()[0].since, what="it waits")
    if moment == "parked" or not endpoint.core()[0].policy.spin_ns:
        until_parked(endpoint, endpoint.side)


def check_over(endpoint: Endpoint) -> None:
    """What every endpoint whose connection is over must still be able to do: say so, in each way there is."""
    assert endpoint.state in (State.OVER, State.CLOSED)
    assert endpoint.state.name in repr(endpoint)
    assert endpoint.stats.flips >= 0
    endpoint.shutdown()
    assert endpoint.cancelled()


SIDES = (Side.CLIENT, Side.SERVER)
