"""The fixtures that differ: how frames travel. Everything else in this directory is the same for all."""

# ruff: noqa: F403
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

import flipcall
from flipcall.conformance.fixtures import *
from tests import loops
from tests.conformance.plain import WINDOW
from tests.conformance.shelf import MESSAGE, Shelf, ShelfServer

S = TypeVar("S", bound=flipcall.Service)


@pytest.fixture(
    params=[
        "window",
        "socket",
        "loop client",
        "loop server",
        "socket to loop server",
        "loop client over socket",
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    """How frames travel, and which side lives in an event loop."""
    return str(request.param)


@pytest.fixture
def transport(kind: str) -> str:
    """How frames travel."""
    return "socket" if "socket" in kind else "window"


@pytest.fixture
def loop(stack: ExitStack) -> loops.LoopThread:
    """An event loop in a thread."""
    return stack.enter_context(loops.LoopThread())


@pytest.fixture
def message_max() -> int:
    """As much as fits the window, and a little more."""
    return WINDOW


@pytest.fixture
def coroutine_handlers(kind: str) -> bool:
    """Whether handlers run as coroutines; what those make of GeneratorExit is in tests/asyncio."""
    return "loop server" in kind


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the server listens."""
    return str(tmp_path / "s")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is entered into it is left at the end of the test, last first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(
    path: str, stack: ExitStack, kind: str, request: pytest.FixtureRequest
) -> Callable[..., flipcall.Server]:
    """Start a server in this process; it is stopped at the end of the test."""
    loop = request.getfixturevalue("loop") if "loop server" in kind else None

    def start(implementation: Any, at: str = path, **options: Any) -> flipcall.Server:
        options = {"window_max": WINDOW, "message_max": WINDOW, **options}
        if loop is not None:
            return stack.enter_context(loops.LoopServer(loop, implementation, at, **options))  # type: ignore[return-value]
        return stack.enter_context(flipcall.Server(implementation, at, **options))

    return start


@pytest.fixture
def connect(
    path: str, transport: str, stack: ExitStack, kind: str, request: pytest.FixtureRequest
) -> Callable[..., Any]:
    """Connect a client over the transport; it is closed at the end of the test."""
    loop = request.getfixturevalue("loop") if "loop client" in kind else None

    def made(service: type[S], at: str = path, **options: Any) -> S:
        options = {"transport": transport, "window_size": WINDOW, **options}
        if loop is not None:
            return stack.enter_context(loops.connect(loop, service, at, **options))  # type: ignore[return-value]
        return stack.enter_context(flipcall.connect(service, at, **options))

    return made


@pytest.fixture
def shelf_server() -> ShelfServer:
    """The implementation."""
    return ShelfServer()


@pytest.fixture
def shelf(shelf_server: ShelfServer, serve: Callable[..., Any], connect: Callable[..., Any]) -> Any:
    """A client of it with one channel, so that one not given back is missed; messages of four windows."""
    serve(shelf_server, message_max=MESSAGE)
    return connect(Shelf, message_max=MESSAGE, max_channels=1)
