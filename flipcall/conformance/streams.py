"""Streams: items one way, the other, and both; how each can end, and that the channel goes on after it."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import flipcall

from .services import Point

WINDOW = 65536  # bytes: where flipcall's own tests have the edge of a window


class Flow(flipcall.Service):
    """One method for each way items can go."""

    def count(self, n: int, size: int = 0) -> Iterator[str]: ...
    def points(self, n: int) -> Iterator[Point]: ...
    def chunks(self, n: int, size: int) -> Iterator[bytes]: ...
    def total(self, numbers: Iterator[int], start: int = 0) -> int: ...
    def first(self, numbers: Iterator[int], n: int) -> list[int]: ...
    def join(self, parts: Iterator[bytes]) -> bytes: ...
    def size(self, parts: Iterator[bytes]) -> int: ...
    def doubled(self, numbers: Iterator[int]) -> Iterator[int]: ...
    def pairs(self, numbers: Iterator[int]) -> Iterator[tuple[int, int]]: ...
    def fails(self, after: int, how: str) -> Iterator[int]: ...
    def wrong(self, n: int) -> Iterator[int]: ...
    def endless(self) -> Iterator[int]: ...
    def slow(self) -> Iterator[int]: ...
    def tag(self, prefix: bytes, numbers: Iterator[int]) -> Iterator[bytes]: ...
    def plain(self, x: int) -> int: ...


class FlowServer(Flow):
    """Handlers that say when they were let go."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.go = threading.Event()
        self.produced = 0

    def count(self, n: int, size: int = 0) -> Iterator[str]:
        for i in range(n):
            yield str(i).rjust(size, ".")

    def points(self, n: int) -> Iterator[Point]:
        return (Point(i, -i) for i in range(n))

    def chunks(self, n: int, size: int) -> Iterator[bytes]:
        for i in range(n):
            yield bytes([i % 256]) * size

    def total(self, numbers: Iterator[int], start: int = 0) -> int:
        return start + sum(numbers)

    def first(self, numbers: Iterator[int], n: int) -> list[int]:
        return [next(numbers) for _ in range(n)]

    def join(self, parts: Iterator[bytes]) -> bytes:
        return b"".join(parts)

    def size(self, parts: Iterator[bytes]) -> int:
        return sum(len(part) for part in parts)

    def doubled(self, numbers: Iterator[int]) -> Iterator[int]:
        for x in numbers:
            yield 2 * x

    def pairs(self, numbers: Iterator[int]) -> Iterator[tuple[int, int]]:
        for x in numbers:
            yield x, next(numbers, -1)
        yield -1, -1

    def fails(self, after: int, how: str) -> Iterator[int]:
        yield from range(after)
        if how == "exit":
            raise SystemExit(3)
        if how == "os":
            raise FileNotFoundError(2, "gone")
        raise ValueError("enough", after)

    def wrong(self, n: int) -> Iterator[int]:
        yield from range(n)
        yield "no number"  # type: ignore[misc]

    def endless(self) -> Iterator[int]:
        self.closed.clear()
        try:
            while True:
                yield self.produced
                self.produced += 1
        finally:
            self.closed.set()

    def slow(self) -> Iterator[int]:
        self.closed.clear()
        try:
            yield 1
            self.go.wait(20)
            yield 2
            yield 3
        finally:
            self.closed.set()

    def tag(self, prefix: bytes, numbers: Iterator[int]) -> Iterator[bytes]:
        return (prefix + str(x).encode() for x in numbers)

    def plain(self, x: int) -> int:
        return x + 1


@pytest.fixture
def flow_server() -> FlowServer:
    """The implementation."""
    return FlowServer()


@pytest.fixture
def flow(flow_server: FlowServer, serve: Callable[..., Any], connect: Callable[..., Flow]) -> Iterator[Flow]:
    """A client with one channel, which is free again after every test."""
    serve(flow_server, message_max=4 << 20)
    client = connect(Flow, max_channels=1, timeout=20.0)
    yield client
    flow_server.go.set()
    assert client.plain(1) == 2


@pytest.mark.parametrize("n", [0, 1, 2, 1000, 20_000])
def test_items_from_the_server(flow: Flow, n: int) -> None:
    """They come all and in order, however many windows they fill."""
    assert list(flow.count(n)) == [str(i) for i in range(n)]
    assert list(flow.points(min(n, 1000))) == [Point(i, -i) for i in range(min(n, 1000))]


@pytest.mark.parametrize(
    "size", [1, 1000, WINDOW - 100, WINDOW - 69, WINDOW - 68, WINDOW, 5 * WINDOW, 3 << 20]
)
def test_items_of_any_size(flow: Flow, size: int) -> None:
    """An item may be larger than the window, among others that are not."""
    assert list(flow.chunks(3, size)) == [bytes([i]) * size for i in range(3)]
    assert [len(x) for x in flow.count(4, size)] == [max(size, 1)] * 4
    parts = [b"a", bytes(size), b"b"]
    assert flow.join(iter(parts)) == b"".join(parts)


@pytest.mark.parametrize("n", [0, 1, 1000, 30_000])
def test_items_from_the_client(flow: Flow, n: int) -> None:
    """Any iterable is sent, beside ordinary arguments; the result is one value."""
    assert flow.total(iter(range(n))) == sum(range(n))
    assert flow.total(range(n), 5) == sum(range(n)) + 5  # type: ignore[arg-type]
    assert flow.total(numbers=(x for x in range(n)), start=1) == sum(range(n)) + 1


def test_a_handler_that_wants_only_some(flow: Flow) -> None:
    """What it does not read is not waited for, and an endless source ends."""
    asked = 0

    def source() -> Iterator[int]:
        nonlocal asked
        while True:
            yield asked
            asked += 1

    assert flow.first(source(), 3) == [0, 1, 2]
    assert flow.first(source(), 0) == []
    with pytest.raises((flipcall.RemoteError, RuntimeError)):
        flow.first(iter([1]), 2)  # StopIteration in the handler


def test_both_ways(flow: Flow) -> None:
    """Each result can depend on the item before it, and each item on the result before it."""
    last = 1

    def source() -> Iterator[int]:
        while last < 1000:
            yield last

    seen = []
    for x in flow.doubled(source()):
        seen.append(x)
        last = x
    assert seen == [2**i for i in range(1, 11)]
    assert list(flow.pairs(iter(range(5)))) == [(0, 1), (2, 3), (4, -1), (-1, -1)]
    assert list(flow.tag(b"x", iter([1, 2]))) == [b"x1", b"x2"]
    assert list(flow.doubled(iter([]))) == []
    assert list(flow.doubled(range(2000))) == [2 * x for x in range(2000)]  # type: ignore[arg-type]


@pytest.mark.parametrize("after", [0, 1, 100, 30_000])
def test_the_handler_raises(flow: Flow, after: int) -> None:
    """The items before it come first, then the exception, as it would from a plain call."""
    for how, kind in (("value", ValueError), ("os", FileNotFoundError), ("exit", flipcall.RemoteError)):
        got: list[int] = []
        with pytest.raises(kind):
            got.extend(flow.fails(after, how))
        assert got == list(range(after))


@pytest.mark.parametrize("after", [0, 1, 100, 30_000])
def test_the_source_raises(flow: Flow, after: int) -> None:
    """An exception out of the caller's own iterator is the caller's, and the server is let go."""

    def source() -> Iterator[int]:
        yield from range(after)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        flow.total(source())
    with pytest.raises(LookupError, match="mine"):
        list(flow.doubled(source()))


@pytest.mark.parametrize("taken", [0, 1, 10, 5000])
@pytest.mark.parametrize("how", ["close", "break", "drop", "with"])
def test_the_caller_stops_early(flow: Flow, flow_server: FlowServer, taken: int, how: str) -> None:
    """However it stops, the handler's generator is closed."""
    stream = flow.endless()
    for _ in range(taken):
        next(stream)
    if how == "close":
        stream.close()  # type: ignore[attr-defined]
        assert list(stream) == []
    elif how == "break":
        for _ in stream:
            break
    elif how == "with":
        with stream:  # type: ignore[attr-defined]
            next(stream)
    del stream
    gc.collect()
    assert (how in ("close", "drop") and not taken) or flow_server.closed.wait(10)


def test_the_producer_runs_ahead_by_a_window(flow: Flow, flow_server: FlowServer, run_ahead: int) -> None:
    """Backpressure: while nobody asks, the handler yields no more than what fits the window (or the socket)."""
    stream = flow.endless()
    assert next(stream) == 0
    seen = -1
    while seen != flow_server.produced:  # until it stands still
        seen = flow_server.produced
        time.sleep(0.05)
    assert 0 < seen < run_ahead
    stream.close()  # type: ignore[attr-defined]
    assert flow_server.closed.wait(10)


def test_an_item_does_not_wait_for_the_next(flow: Flow, flow_server: FlowServer) -> None:
    """What was yielded is there at once, though the handler goes on to think."""
    stream = flow.slow()
    assert next(stream) == 1
    flow_server.go.set()
    assert list(stream) == [2, 3]


def test_deadline_between_items(connect: Callable[..., Flow], serve: Callable[..., Any]) -> None:
    """The deadline is the whole call's; after it the channel comes back when the handler lets go."""
    flow_server = FlowServer()
    serve(flow_server)
    flow = connect(Flow, max_channels=1)
    stream = flipcall.with_options(flow, timeout=0.2).slow()
    assert next(stream) == 1
    with pytest.raises(flipcall.DeadlineExceeded):
        next(stream)
    flow_server.go.set()
    assert flow_server.closed.wait(10)
    assert flow.plain(1) == 2


def test_deadline_while_the_source_is_slow(connect: Callable[..., Flow], serve: Callable[..., Any]) -> None:
    """A handler that waits for items is told by the same deadline."""
    serve(FlowServer())
    flow = connect(Flow, max_channels=1)
    gone = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        gone.wait(0.5)
        yield 2

    with pytest.raises(flipcall.DeadlineExceeded):
        flipcall.with_options(flow, timeout=0.1).total(source())
    assert flow.plain(1) == 2


def test_wrong_types(flow: Flow) -> None:
    """Items of another type are refused on the side that takes them, and the channel goes on."""
    with pytest.raises(flipcall.CallError) as caught:
        flow.total(iter(["one"]))  # type: ignore[list-item]
    assert caught.value.status is flipcall.Status.INVALID_ARGUMENT
    with pytest.raises(flipcall.ProtocolError):
        list(flow.wrong(3))
    with pytest.raises(TypeError):
        flow.total(5)  # type: ignore[arg-type]


def test_items_too_large(flow: Flow) -> None:
    """An item beyond the limit is refused where it is sent, with both sizes."""
    with pytest.raises(flipcall.CallError, match=r"5000003.*4194304|5000005.*4194304") as caught:
        flow.join(iter([bytes(5_000_000)]))
    assert caught.value.status is flipcall.Status.RESOURCE_EXHAUSTED
    with pytest.raises(flipcall.CallError, match=r"5000003.*4194304|5000005.*4194304"):
        list(flow.chunks(1, 5_000_000))


def test_a_stream_is_made_when_asked_for(flow: Flow) -> None:
    """Nothing is called before the first next(), and wrong arguments are told at once."""
    streams = [flow.endless() for _ in range(20)]
    assert flow.plain(1) == 2
    with pytest.raises(TypeError):
        flow.count()  # type: ignore[call-arg]
    del streams


def test_many_streams_at_once(serve: Callable[..., Any], connect: Callable[..., Flow]) -> None:
    """Each has a channel of its own; with all in use a further one waits."""
    serve(FlowServer())
    flow = connect(Flow, max_channels=4)
    streams = [flow.count(3000) for _ in range(4)]
    for _ in range(3000):
        assert len({next(s) for s in streams}) == 1
    with pytest.raises(flipcall.DeadlineExceeded):
        next(flipcall.with_options(flow, timeout=0.05).count(1))
    assert [list(s) for s in streams] == [[]] * 4
    assert list(flow.count(2)) == ["0", "1"]


def test_close_ends_streams(serve: Callable[..., Any], connect: Callable[..., Flow]) -> None:
    """A client that is closed ends its streams with ClosedError, and the handler is let go."""
    flow_server = FlowServer()
    serve(flow_server)
    flow = connect(Flow)
    stream = flow.endless()
    next(stream)
    flow.close()
    with pytest.raises(flipcall.ClosedError):
        list(stream)
    assert flow_server.closed.wait(10)


def test_what_cannot_be_a_stream() -> None:
    """Two streams in, or one with a default, are refused when the contract is read."""

    class Two(flipcall.Service):
        def f(self, a: Iterator[int], b: Iterator[int]) -> None: ...

    class Default(flipcall.Service):
        def f(self, a: Iterator[int] = iter(())) -> None: ...  # noqa: B008

    class Strange(flipcall.Service):
        def f(self) -> Iterator[threading.Lock]: ...

    for service in (Two, Default, Strange):
        with pytest.raises(flipcall.MisuseError):
            flipcall.connect(service, "/nowhere")
