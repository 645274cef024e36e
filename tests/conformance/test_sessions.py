"""Sessions: one implementation for each client that a factory makes, ended once."""

# ruff: noqa: F403
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flipcall
from flipcall.conformance.services import Desk, DeskServer, Tally, TallyServer
from flipcall.conformance.sessions import *


def test_a_server_that_came_back(connect: Callable[..., Desk], path: str, transport: str) -> None:
    """A client of a shared implementation goes on with the server that was started anew."""
    first = flipcall.Server(DeskServer(), path)
    first.start()
    desk = connect(Desk, max_channels=1)
    assert desk.add(1) == 11
    first.stop()
    with pytest.raises(flipcall.ClosedError):
        desk.add(1)
    with pytest.raises(FileNotFoundError):
        desk.add(1)
    with flipcall.Server(DeskServer(), path):
        assert desk.add(2) == 12


def test_a_session_that_is_over(serve: Callable[..., Any], connect: Callable[..., Tally], path: str) -> None:
    """A client of a factory whose session ended with the server is told so: its state is gone."""
    ended: list[TallyServer] = []
    first = flipcall.Server(lambda peer: TallyServer(peer, ended), path)
    first.start()
    tally = connect(Tally, max_channels=1)
    assert tally.count() == 1
    first.stop()
    with pytest.raises(flipcall.ClosedError):
        tally.count()
    serve(lambda peer: TallyServer(peer, ended))
    with pytest.raises(flipcall.CallError) as info:
        tally.count()
    assert info.value.status is flipcall.Status.UNAUTHENTICATED


def test_another_server_under_the_same_name(connect: Callable[..., Any], path: str) -> None:
    """A client whose methods would have other numbers at the server of today does not call the wrong ones."""

    class Thing(flipcall.Service):
        def b(self) -> str: ...

    new = type("Thing", (flipcall.Service,), {"a": _said("a"), "b": _said("b")})
    old = type("Thing", (flipcall.Service,), {"b": _said("b")})
    with flipcall.Server(old(), path):
        thing = connect(Thing, max_channels=1)
        assert thing.b() == "b"
    with pytest.raises(flipcall.ClosedError):
        thing.b()
    with (
        flipcall.Server(new(), path),
        pytest.raises(flipcall.CallError, match="other methods"),
    ):
        thing.b()


def _said(word: str) -> Callable[..., str]:
    def method(self: Any) -> str:
        return word

    method.__annotations__ = {"return": str}
    return method
