"""Streaming calls, step by step, whatever carries them: the client's half, and below it the handler's.

      request ──► take ◄──────────────────────────────┐
                   │ items: to the caller ─────────────┤
                   │ MORE: the server wants items ──► produce, hand over (ITEMS, END)
                   │ ITEMS: the window was full ───► MORE at once: the server goes on while the caller consumes
                   └ REPLY: over

With items both ways a request item is handed over at once, one a flip: the next answer may depend on it, and the
caller's next request on that answer. Rejected: running ahead there, too: who answers item by item would deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from .bulk import octets
from .errors import CallError, ProtocolError
from .failure import rebuild
from .filled import Filled, Filling
from .frame import END, ITEMS, MORE, REPLY
from .items import Items
from .method import Method
from .status import Status

T = TypeVar("T")


class Flowing(Protocol):
    """A streaming call under way, on either side, in threads or a loop; see FlowState."""

    items: list[Any]
    mine: bool
    kind: int
    code: int
    body: bytes
    attachment: bytes

    def hand(self, kind: int, code: int = 0) -> None: ...
    def drain(self) -> list[Any]: ...


class Flow(Flowing, Protocol):
    """One in threads; see WindowFlow."""

    def open(self, number: int, timeout_us: int, body: bytes, attachment: Any) -> None: ...
    def give(self, item: Any) -> bool: ...
    def publish_bulk(self, data: memoryview) -> bool: ...
    def flip(self) -> None: ...
    def take(self) -> None: ...
    def regain(self) -> None: ...


class Stream(Iterator[T], Generic[T]):
    """The results of a streaming call. The call is made when the first one is asked for.

    Iterate over it; close(), or simply forget it, and the server stops. One thread at a time. Raises what a call
    raises, and what the handler raised after the items that it yielded before.
    """

    def __init__(self, results: Iterator[T]) -> None:
        self._results: Any = results

    def __iter__(self) -> Iterator[T]:
        results: Iterator[T] = self._results
        return results

    def __next__(self) -> T:
        item: T = next(self._results)
        return item

    def close(self) -> None:
        """Ask for no more. Idempotent."""
        self._results.close()

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def steps(flow: Flow, method: Method, requests: Iterator[Any] | None) -> Iterator[list[Any]]:
    """Everything between the request and the reply, a batch of results at a time."""
    try:
        while True:
            if flow.mine and flow.kind == ITEMS:
                flow.hand(MORE)
            if flow.items:
                yield flow.drain()
            if flow.mine:
                if flow.kind == REPLY:
                    return
                _produce(flow, method, requests)
                if flow.mine:  # the reply came instead of a wish for more
                    continue
            flow.take()
    except UNREADABLE as e:
        raise ProtocolError(f"an item of {method.name} is not what its signature says: {e}") from e


def _produce(flow: Flow, method: Method, requests: Iterator[Any] | None) -> None:
    """The server wants items. Not mine afterwards, unless its reply has come."""
    if requests is None or method.stream_in is None:
        raise ProtocolError(f"{method.name} has no items to give, and was asked for some")
    give = giver(flow, method.stream_in)
    if method.stream_out is not None:
        for item in requests:
            if give(item) or flow.kind != REPLY:
                flow.hand(ITEMS)
            return
    else:
        for item in requests:
            if not give(item):
                break
    if flow.kind != REPLY:
        flow.hand(END)


def giver(flow: Flow, items: Items) -> Callable[[Any], bool]:
    """What publishes one item of this kind."""
    return (lambda item: flow.publish_bulk(item_octets(item))) if items.bulk else flow.give


def item_octets(item: Any) -> memoryview:
    """The bytes of a bulk item. Raises TypeError for what has none."""
    return octets(Filling([item]).private() if isinstance(item, Filled) else item)


def outcome(flow: Flowing) -> None:
    """Raise what the reply says, if it is no OK."""
    if flow.code:
        raise rebuild(flow.code, flow.body)


def as_requests(source: Any, name: str) -> Iterator[Any]:
    """The items a caller passes. Raises TypeError for what cannot be iterated over."""
    if not isinstance(source, Iterable):
        raise TypeError(f"{name} must be iterable, not {type(source).__name__}")
    return iter(source)


# ---- the handler's half ---------------------------------------------------------------------------------------


class BrokenRequest(ProtocolError):
    """What no honest client sends: the channel ends."""


UNREADABLE = (
    msgspec.DecodeError,
    UnicodeDecodeError,
    RecursionError,
)  # what msgspec raises for hostile items


def unreadable(name: str, error: Exception) -> CallError | BrokenRequest:
    """The error for items that do not decode: of a wrong type, which an honest caller can pass, or nonsense."""
    if isinstance(error, msgspec.ValidationError):
        return CallError(Status.INVALID_ARGUMENT, f"{name}: {error}")
    return BrokenRequest(f"an item for {name} cannot be read: {error}")


def asked_for_more(flow: Flowing) -> bool:
    """Before a handler waits for items: the client is asked for some; False when it has no more.

    Raises CallError (CANCELLED) once the caller has given up.
    """
    if flow.mine:
        if flow.kind == END:
            return False
        if flow.kind not in (0, MORE, ITEMS):
            raise CallError(Status.CANCELLED, "the caller gave up")
        flow.hand(MORE)
    return True


def received(flow: Flow, name: str) -> Generator[Any, None, None]:
    """What a handler iterates over: the client's items. Raises CallError for those of a wrong type, which an
    honest caller can pass, and once the caller has given up; BrokenRequest; DeadlineExceeded.
    """
    while True:
        if flow.items:
            yield from flow.drain()
            continue
        if not asked_for_more(flow):
            return
        try:
            flow.take()
        except UNREADABLE as e:
            raise unreadable(name, e) from None


def give_all(flow: Flow, results: Iterable[Any], items: Items) -> bool:
    """Publish what a handler yields; whether the client wanted all of it. The handler's generator is closed."""
    iterator, give = iter(results), giver(flow, items)
    try:
        for item in iterator:
            while not flow.mine:
                flow.take()
            if flow.kind not in (0, MORE, ITEMS, END) or not give(item):
                return False
        return True
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
