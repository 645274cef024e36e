"""What the suite's tests share, made of `serve` and `connect`, which are yours.

Those that return a number or a bool say what a transport is like; define your own where it differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .services import Bulk, BulkServer, Desk, DeskServer, Echo, EchoServer

__all__ = ["bulk", "coroutine_handlers", "desk", "echo", "jobs", "message_max", "run_ahead"]


@pytest.fixture
def message_max() -> int:
    """The limit of a message in bytes that the tests of sizes set: of five digits."""
    return 65536


@pytest.fixture
def run_ahead() -> int:
    """The most items, of a few bytes each, that a handler may yield before anybody asks for them."""
    return 3 * 65536


@pytest.fixture
def coroutine_handlers() -> bool:
    """Whether handlers run as coroutines, which raise neither StopIteration nor GeneratorExit (PEP 479)."""
    return False


@pytest.fixture
def echo(serve: Callable[..., Any], connect: Callable[..., Echo], message_max: int) -> Echo:
    """A client of EchoServer."""
    serve(EchoServer(), message_max=message_max)
    return connect(Echo)


@pytest.fixture
def bulk(serve: Callable[..., Any], connect: Callable[..., Bulk], message_max: int) -> Bulk:
    """A client of BulkServer."""
    serve(BulkServer(), message_max=message_max)
    return connect(Bulk)


@pytest.fixture
def jobs(serve: Callable[..., Any], message_max: int) -> dict[str, Callable[[], Any]]:
    """What the handler Desk.run does, by name; its server runs."""
    server = DeskServer()
    serve(server, message_max=message_max)
    return server.jobs


@pytest.fixture
def desk(jobs: dict[str, Callable[[], Any]], connect: Callable[..., Desk]) -> Desk:
    """A client of DeskServer, whose jobs are the fixture `jobs`."""
    return connect(Desk)
