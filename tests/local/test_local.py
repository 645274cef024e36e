"""flipcall.testing.local passes the conformance suite, as far as it is about a service and not about processes."""

# ruff: noqa: F403
from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import flipcall
from flipcall.conformance.arguments import *
from flipcall.conformance.errors import *
from flipcall.conformance.services import Desk, DeskServer
from flipcall.conformance.streams import *
from flipcall.conformance.streams import FlowServer
from flipcall.testing import local
from tests.conformance.test_filled import *
from tests.conformance.test_types import *

# Of a server's socket, and of its limits: here is neither.
del test_items_too_large, test_bytes_too_many_are_refused_before  # noqa: F821


def test_a_plain_call_runs_here() -> None:
    """In the caller's thread: a debugger steps into the handler."""
    server = DeskServer()
    server.jobs["where"] = lambda: threading.current_thread().name
    with local(server) as desk:
        assert desk.run("where") == threading.current_thread().name


def test_the_deadline_is_told(connect: Callable[..., Any]) -> None:
    """To the handler while it runs, to the caller when it returns; the client goes on."""
    server = DeskServer()

    def outlive() -> float:
        context = flipcall.context()
        while not context.cancelled:
            pass
        return context.remaining() or 0.0

    server.jobs["outlive"] = outlive
    desk = local(server, timeout=0.05)
    with pytest.raises(flipcall.DeadlineExceeded):
        desk.run("outlive")
    assert flipcall.with_options(desk, timeout=5.0).add(1) == 11


def test_a_factory_and_its_end() -> None:
    """Made once with this process as its peer, told once when the client is closed."""
    ended = []

    class Session(DeskServer):
        def __init__(self, peer: flipcall.Peer) -> None:
            super().__init__()
            self.peer = peer

        def on_disconnect(self) -> None:
            ended.append(self.peer.pid)

    desk: Desk = local(Session)
    pid, _ = desk.whoami()
    desk.close()
    desk.close()
    assert ended == [pid]
    with pytest.raises(flipcall.ClosedError):
        desk.add(1)


def test_a_handler_may_call_another_service() -> None:
    """context() is the inner call's while that lasts, and the outer one's again after it."""
    inner, outer = DeskServer(), DeskServer()
    inner.jobs["left"] = lambda: flipcall.context().remaining()
    behind = local(inner, timeout=100.0)

    def ask() -> list[Any]:
        return [behind.run("left"), flipcall.context().remaining()]

    outer.jobs["ask"] = ask
    within, after = local(outer, timeout=10.0).run("ask")
    assert 9 < within <= after + 0.5 <= 10.5
    with pytest.raises(flipcall.MisuseError):
        flipcall.context()


def test_interceptors_and_metadata() -> None:
    """On both sides, as over a connection."""
    seen = []

    def sign(call: Any, proceed: Any) -> Any:
        call.metadata["user"] = "me"
        return proceed(call)

    def look(call: Any, proceed: Any) -> Any:
        seen.append((call.method, dict(call.metadata)))
        return proceed(call)

    local(DeskServer(), interceptors=[sign], server_interceptors=[look]).add(1)
    flow = local(FlowServer(), interceptors=[sign], server_interceptors=[look])
    assert flow.total(iter([1, 2])) == 3
    assert seen == [("add", {"user": "me"}), ("total", {"user": "me"})]
