"""Health says whether the server can be called, until the last moment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import flipcall
from flipcall.health import Health
from tests.builtin.conftest import Desk, DeskServer
from tests.support import wait_until


def test_a_server_serves(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """The whole, its service and the built-in ones are serving; another one is NOT_FOUND."""
    serve(DeskServer())
    health = connect(Health)
    assert health.check() == health.check("Desk") == "serving"
    built_in = {"flipcall.Health", "flipcall.Reflection", "flipcall.Statistics"}
    assert set(health.services()) == {"", "Desk", *built_in}
    with pytest.raises(flipcall.CallError) as info:
        health.check("Chair")
    assert info.value.status is flipcall.Status.NOT_FOUND


def test_what_the_program_says(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """set() is heard at once, for the service, the whole, and parts of the program's own."""
    server = serve(DeskServer())
    health = connect(Health)
    server.health.set("Desk", False)
    server.health.set("database", False)
    assert health.check("Desk") == health.check("database") == "not serving"
    assert health.check() == "serving"
    server.health.set("database", True)
    assert health.check("database") == "serving"


def test_draining_is_told_until_the_last_answer(
    serve: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    """While a call is under way Health says "draining"; when it has been answered everything ends."""
    desk = DeskServer()
    server = serve(desk)
    client, health = connect(Desk), connect(Health)
    with ThreadPoolExecutor(2) as threads:
        held = threads.submit(client.hold)
        desk.entered.acquire()
        assert health.check() == "serving"  # and the server knows what this channel is for
        stopping = threads.submit(server.stop, 20)
        while (state := health.check()) != "draining":
            assert state == "serving"
        desk.go_on.set()
        assert held.result(20) is None
        stopping.result(20)
    with pytest.raises((flipcall.ClosedError, flipcall.PeerDiedError)):
        health.check()


def test_a_service_of_ones_own_cannot_be_called_so(path: str) -> None:
    """The names of the built-in services are taken."""
    with pytest.raises(flipcall.MisuseError, match=r"flipcall\.Health"):
        flipcall.Server(type("Mine", (Health,), {})(), path)


def test_authorize_is_for_all(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """Who may not connect may not ask for the health either."""
    serve(DeskServer(), authorize=lambda peer: False)
    with pytest.raises(flipcall.CallError) as info:
        connect(Health)
    assert info.value.status is flipcall.Status.PERMISSION_DENIED


def test_a_watch_tells_each_change(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """What is so, then what it becomes, whoever says it; a name that there is not is unknown until there is."""
    server = serve(DeskServer())
    health = connect(Health)
    with health.watch("Desk") as desk, health.watch("database") as database:
        assert (next(desk), next(database)) == ("serving", "unknown")
        for serving, state in ((False, "not serving"), (True, "serving"), (False, "not serving")):
            server.health.set("Desk", serving)
            assert next(desk) == state
        server.health.set("Desk", False)  # no change
        server.health.set("database", True)
        assert next(database) == "serving"
        server.health.set("Desk", True)
        assert next(desk) == "serving"


def test_a_watch_ends_with_draining(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """It holds the server's end up no longer than a call that is under way."""
    desk = DeskServer()
    server = serve(desk)
    client, watches = connect(Desk), [connect(Health).watch(name) for name in ("", "nothing")]
    assert [next(watch) for watch in watches] == ["serving", "unknown"]
    with ThreadPoolExecutor(2) as threads:
        held = threads.submit(client.hold)
        desk.entered.acquire()
        stopping = threads.submit(server.stop, 20)
        assert [list(watch) for watch in watches] == [["draining"], ["draining"]]
        desk.go_on.set()
        assert held.result(20) is None
        stopping.result(20)


@pytest.mark.parametrize("how", ["stream", "client"])
def test_a_watch_that_nobody_reads(serve: Callable[..., Any], connect: Callable[..., Any], how: str) -> None:
    """A caller that has enough, or is gone, is noticed though nothing changes."""
    server = serve(DeskServer())
    health = flipcall.with_options(connect(Health), timeout=None)
    watch = health.watch()
    assert next(watch) == "serving"
    assert len(server.health._watches) == 1
    (watch if how == "stream" else health).close()
    if how == "client":
        with pytest.raises(flipcall.ClosedError):
            next(watch)
    wait_until(lambda: not server.health._watches)
