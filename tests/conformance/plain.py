"""Fixtures without event loops, for suites that share them: how frames travel, a server, a client."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

import flipcall

S = TypeVar("S", bound=flipcall.Service)

WINDOW = 65536  # bytes, and those of the largest message: a little more than fits the window at once


@pytest.fixture(params=["window", "socket"])
def transport(request: pytest.FixtureRequest) -> str:
    """How frames travel."""
    return str(request.param)


@pytest.fixture
def serve(path: str, stack: ExitStack) -> Callable[..., flipcall.Server]:
    """Start a server in this process; it is stopped at the end of the test."""

    def start(implementation: Any, at: str = path, **options: Any) -> flipcall.Server:
        options = {"window_max": WINDOW, "message_max": WINDOW, **options}
        return stack.enter_context(flipcall.Server(implementation, at, **options))

    return start


@pytest.fixture
def connect(path: str, transport: str, stack: ExitStack) -> Callable[..., Any]:
    """Connect a client over the transport; it is closed at the end of the test."""

    def made(service: type[S], at: str = path, **options: Any) -> S:
        options = {"transport": transport, "window_size": WINDOW, **options}
        return stack.enter_context(flipcall.connect(service, at, **options))

    return made
