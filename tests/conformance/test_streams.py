"""Streams: items one way, the other, and both; how each can end, and that the channel goes on after it."""

# ruff: noqa: F403
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

import flipcall
from flipcall.conformance.streams import *
from flipcall.conformance.streams import Flow, FlowServer


@pytest.fixture(autouse=True)
def _not_too_many(kind: str, request: pytest.FixtureRequest) -> None:
    if "loop" in kind and "30000" in request.node.name:
        pytest.skip("each item crosses two threads of this adapter: tests/asyncio fills windows")


@pytest.fixture(autouse=True)
def _the_channel_is_kept(_not_too_many: None, request: pytest.FixtureRequest) -> Iterator[None]:
    flow: Any = request.getfixturevalue("flow") if "flow" in request.fixturenames else None
    yield
    if flow is not None:
        request.getfixturevalue("flow_server").go.set()
        assert flow.plain(1) == 2
        assert len(flow._flipcall.pool.channels()) == 1


def test_the_server_stops(path: str, transport: str, stack: ExitStack) -> None:
    """A stream under way when the server drains is given its grace, then ended."""
    server = flipcall.Server(FlowServer(), path)
    server.start()
    flow = stack.enter_context(flipcall.connect(Flow, path, transport=transport))  # type: ignore[arg-type]
    stream = flow.endless()
    next(stream)
    server.stop(0.1)
    with pytest.raises(flipcall.FlipcallError):
        list(stream)


def test_structs_and_fingerprints() -> None:
    """A stream of T is another signature than a list of T."""
    from flipcall.service import contract_of

    class A(flipcall.Service):
        def f(self) -> Iterator[int]: ...

    class B(flipcall.Service):
        def f(self) -> list[int]: ...

    assert contract_of(A).methods[0].fingerprint != contract_of(B).methods[0].fingerprint
    assert msgspec.msgpack.encode(1) == b"\x01"
