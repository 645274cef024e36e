"""An Observer of a streaming call sees it from the call to the end of its items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from flipcall import otel
from flipcall.interceptor import Observer
from tests.interceptors.conftest import Told, ToldServer
from tests.support import wait_until

current: ContextVar[str] = ContextVar("current", default="nobody")


class CountingServer(ToldServer):
    """Says for whom it counts; what it cannot, it raises after three."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def count(self, n: int) -> Iterator[int]:
        for i in range(min(n, 3)):
            self.seen.append(current.get())
            yield i
        if n > 3:
            raise ValueError("no")


def observer(side: str, told: list[str]) -> Observer:
    """Tells that a call begins and how it ends, and is current meanwhile."""

    @contextmanager
    def around(call: Any) -> Iterator[None]:
        token = current.set(side)
        try:
            yield
        except BaseException as e:
            told.append(f"{side} {call.method} {type(e).__name__}")
            raise
        else:
            told.append(f"{side} {call.method}")
        finally:
            current.reset(token)

    return Observer(around)


@pytest.fixture
def told() -> list[str]:
    """What the observers of both sides tell."""
    return []


@pytest.fixture
def server(serve: Callable[..., Any], told: list[str]) -> CountingServer:
    """Its calls are observed."""
    made = CountingServer()
    serve(made, interceptors=[observer("server", told)])
    return made


@pytest.fixture
def client(server: CountingServer, connect: Callable[..., Any], told: list[str]) -> Any:
    """So are its calls."""
    return connect(Told, interceptors=[observer("client", told), observer("inner", told)])


def test_until_the_last_item(client: Any, server: CountingServer, told: list[str]) -> None:
    """It is left when there are no more; in between the handler runs in it, and not whoever takes the items."""
    items = client.count(3)
    for i, item in enumerate(items):
        assert (item, current.get()) == (i, "nobody")
        assert "client count" not in told
    wait_until(lambda: len(told) == 3)
    assert sorted(told) == ["client count", "inner count", "server count"]
    assert server.seen == ["server"] * 3


def test_an_error_after_some_items(client: Any, told: list[str]) -> None:
    """It is seen on both sides."""
    items = client.count(4)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no"):
        next(items)
    wait_until(lambda: len(told) == 3)
    assert sorted(told) == [f"{side} count ValueError" for side in ("client", "inner", "server")]


def test_closed_early(client: Any, told: list[str]) -> None:
    """That is an end like another, on both sides, and the client goes on."""
    items = client.count(3)
    assert next(items) == 0
    items.close()
    wait_until(lambda: len(told) == 3)
    assert sorted(told) == ["client count", "inner count", "server count"]
    assert client.add(1) == 3


def test_dropped(client: Any, told: list[str]) -> None:
    """So is an iterator that nobody has any more."""
    items = client.count(3)
    assert next(items) == 0
    del items
    wait_until(lambda: len(told) == 3)
    assert sorted(told) == ["client count", "inner count", "server count"]


def test_the_span_of_a_stream(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """What a stream ends with is its span's outcome."""
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    serve(CountingServer(), interceptors=[otel.server(tracers)])
    items = connect(Told, interceptors=[otel.client(tracers)]).count(4)
    assert next(items) == 0
    assert not [s for s in exporter.get_finished_spans() if s.kind is SpanKind.CLIENT]
    with pytest.raises(ValueError, match="no"):
        list(items)
    wait_until(lambda: len(exporter.get_finished_spans()) == 2)
    for span in exporter.get_finished_spans():
        assert span.attributes is not None
        assert span.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"
