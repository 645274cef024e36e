"""The fixtures of the conformance suite, and processes to be hurt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from flipcall.conformance.fixtures import jobs, message_max
from tests.conformance.conftest import path, stack
from tests.conformance.plain import connect, serve, transport
from tests.faults.programs import calling, serving
from tests.support import Child, child

__all__ = [
    "caller",
    "connect",
    "jobs",
    "kind",
    "message_max",
    "no_fork_server",
    "path",
    "serve",
    "server",
    "stack",
    "transport",
]


@pytest.fixture(params=["window", "socket"])
def kind(request: pytest.FixtureRequest) -> str:
    """How frames travel; here both sides are synchronous."""
    return str(request.param)


@pytest.fixture
def server(path: str, stack: ExitStack) -> Child:
    """A process that serves programs.Site at `path`; it has said that it listens."""
    process = stack.enter_context(child(serving, path))
    process.expect("listens")
    return process


@pytest.fixture
def caller(path: str, transport: str, stack: ExitStack) -> Callable[..., Child]:
    """Start a process that calls the method it is told, over the transport."""

    def start(policy: str = "balanced") -> Child:
        return stack.enter_context(child(calling, path, transport, policy))

    return start


@pytest.fixture
def no_fork_server() -> Iterator[None]:
    """multiprocessing's fork server outlives its users on purpose; here it is sent away."""
    yield
    from multiprocessing import forkserver

    forkserver._forkserver._stop()  # type: ignore[attr-defined]
