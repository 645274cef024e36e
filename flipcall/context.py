"""The call a handler is serving: context() inside a handler, one object per channel, reused call after call."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Protocol

from .errors import MisuseError
from .liveness import Peer


class Call(Protocol):
    """What a server's channel tells about the call it is serving."""

    peer: Peer
    metadata: Mapping[str, str]

    def deadline_ns(self) -> int | None: ...
    def cancelled(self) -> bool: ...
    def reply_view(self, n: int) -> memoryview: ...


class Context:
    """The current call, for its handler, until that returns; `cancelled` may be read by any thread."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def peer(self) -> Peer:
        """Who calls, by the kernel's word."""
        return self._call.peer

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the caller's interceptors sent along. From the client: it proves nothing."""
        return self._call.metadata

    @property
    def deadline_ns(self) -> int | None:
        """When the caller stops waiting, CLOCK_MONOTONIC nanoseconds; None when it never does."""
        return self._call.deadline_ns()

    def remaining(self) -> float | None:
        """Seconds until the deadline, 0.0 once it has passed; None without a deadline."""
        deadline = self._call.deadline_ns()
        return None if deadline is None else max(0.0, (deadline - time.monotonic_ns()) / 1e9)

    @property
    def cancelled(self) -> bool:
        """Nobody waits for the answer any more: the caller gave up, its deadline passed, or it is gone."""
        deadline = self._call.deadline_ns()
        return self._call.cancelled() or (deadline is not None and time.monotonic_ns() >= deadline)

    def reply_view(self, n: int) -> memoryview:
        """`n` bytes to fill as this call's bulk result: return the view, or its beginning, and nothing is copied.

        On a packet window this *is* the window, so a bulk parameter annotated memoryview may lie in the same
        bytes: read it first. More than fits the window is a buffer of this channel, used again call after call.
        Raises MisuseError for more than a message may have.
        """
        return self._call.reply_view(n)


_current: ContextVar[Context | None] = ContextVar("flipcall.context", default=None)
# Not empty once this process has served: its handlers' calls look for a deadline.
serving: list[bool] = []
NO_METADATA: Mapping[str, str] = MappingProxyType({})


def context() -> Context:
    """The call the current thread, or task, is serving. Raises MisuseError outside a handler."""
    current = _current.get()
    if current is None:
        raise MisuseError("context() is for handlers: this thread serves no call")
    return current


def inherited(timeout: float | None) -> float | None:
    """The timeout of a call that is made now: within a handler at most what is left of its own deadline,
    seconds."""
    current = _current.get()
    left = None if current is None else current.remaining()
    return timeout if left is None else left if timeout is None else min(timeout, left)


def set_context(current: Context) -> None:
    """A channel says once what its calls' context is: in its thread, or in the contextvars of its tasks."""
    _current.set(current)
    if not serving:
        serving.append(True)


@contextmanager
def within(current: Context) -> Iterator[None]:
    """A call that is served in the midst of another one's: what context() tells in this thread meanwhile."""
    before = _current.set(current)
    if not serving:
        serving.append(True)
    try:
        yield
    finally:
        _current.reset(before)


def clear_context() -> None:
    """A channel's thread ends."""
    _current.set(None)
