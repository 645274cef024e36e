"""Retry: what is tried again, how often, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import flipcall
from flipcall.interceptor import ClientCall, ClientProceed
from flipcall.retry import Retry, unavailable
from tests.interceptors.conftest import Told, ToldServer

Serve = Callable[..., Any]
UNAVAILABLE = flipcall.CallError(flipcall.Status.UNAVAILABLE, "not now")


def call(timeout: float | None = 30.0, method: str = "add") -> ClientCall:
    return ClientCall("Told", method, (), timeout)


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (UNAVAILABLE, 3),
        (flipcall.ClosedError("x"), 3),
        (flipcall.PeerDiedError("x", 1), 3),
        (ConnectionRefusedError(111, "Connection refused", "s"), 3),
        (FileNotFoundError(2, "No such file or directory", "s"), 3),
        (FileNotFoundError(2, "No such file or directory"), 1),
        (flipcall.DeadlineExceeded("x"), 1),
        (flipcall.CallError(flipcall.Status.INTERNAL, "x"), 1),
        (ValueError("x"), 1),
    ],
)
def test_what_is_tried_again(error: Exception, times: int) -> None:
    """Only what says that the server could not be asked, or was lost."""
    tried = []

    def proceed(call: ClientCall) -> Any:
        tried.append(call)
        raise error

    with pytest.raises(type(error)) as info:
        Retry({"add"}, pause=0)(call(), proceed)
    assert info.value is error
    assert len(tried) == times
    assert unavailable(error) == (times > 1)


@pytest.mark.parametrize(
    ("idempotent", "times"), [({"add"}, 3), (["echo"], 1), ((), 1), (lambda call: call.timeout is None, 1)]
)
def test_only_what_is_said_to_be_idempotent(idempotent: Any, times: int) -> None:
    """By name, or by a predicate."""
    tried = []

    def proceed(call: ClientCall) -> Any:
        tried.append(call)
        raise UNAVAILABLE

    with pytest.raises(flipcall.CallError):
        Retry(idempotent, pause=0)(call(), proceed)
    assert len(tried) == times


def test_all_attempts_share_the_timeout() -> None:
    """Each has what is left, and there is none when nothing would be."""
    timeouts = []

    def proceed(call: ClientCall) -> Any:
        assert call.timeout is not None
        timeouts.append(call.timeout)
        time.sleep(0.03)
        raise UNAVAILABLE

    with pytest.raises(flipcall.CallError):
        Retry({"add"}, attempts=100, pause=0.001)(call(0.1), proceed)
    assert 2 <= len(timeouts) <= 4
    assert timeouts == sorted(timeouts, reverse=True)
    assert timeouts[1] <= 0.07


def test_a_server_that_comes_back(serve: Serve, connect: Callable[..., Any], path: str) -> None:
    """A client survives the end of its server: the call after it finds the next one."""
    first = serve(ToldServer())
    client = connect(Told, interceptors=[Retry({"add"}, attempts=2, pause=0)])
    assert client.add(1) == 3
    first.stop()
    second = ToldServer()
    serve(second)
    assert client.add(2) == 4
    assert second.calls == 1


def test_a_server_that_is_not_there_yet(serve: Serve, connect: Callable[..., Any], path: str) -> None:
    """While nobody listens it is tried again."""
    server = serve(ToldServer())
    back = []

    def bring_back(call: ClientCall, proceed: ClientProceed) -> Any:
        try:
            return proceed(call)
        except (OSError, flipcall.FlipcallError) as e:
            if not back and isinstance(e, OSError):
                back.append(serve(ToldServer()))
            raise

    client = connect(Told, interceptors=[Retry({"add"}, attempts=5, pause=0), bring_back])
    server.stop()
    assert client.add(1) == 3


def test_a_handlers_unavailable(serve: Serve, connect: Callable[..., Any]) -> None:
    """A handler may say it, too; its other errors are answers."""
    server = ToldServer()
    serve(server)
    client = connect(Told, interceptors=[Retry({"fail"}, attempts=4, pause=0)])
    for how, calls in (("unavailable", 4), ("value", 5), ("file", 6)):
        with pytest.raises((flipcall.CallError, ValueError, FileNotFoundError)):
            client.fail(how)
        assert server.calls == calls


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"pause": -1.0}, {"pause": 2.0, "longest": 1.0}])
def test_what_makes_no_sense(wrong: dict[str, Any]) -> None:
    """Told when it is made."""
    with pytest.raises(flipcall.MisuseError):
        Retry({"add"}, **wrong)
    with pytest.raises(flipcall.MisuseError):
        Retry("add")


def test_each_attempt_fills_its_argument(serve: Serve, connect: Serve) -> None:
    """It is written anew for each, and arrives whole; interceptors see what stands for it."""
    serve(ToldServer())
    written: list[int] = []
    seen: list[str] = []

    def fill(place: memoryview) -> None:
        written.append(len(place))
        place[:] = bytes([len(written)]) * 5
        if len(written) < 3:
            raise flipcall.CallError(flipcall.Status.UNAVAILABLE, "not now")

    def look(call: ClientCall, proceed: ClientProceed) -> Any:
        seen.append(repr(call.args[0]))
        return proceed(call)

    told = connect(Told, interceptors=[look, Retry({"echo"}, pause=0)])
    assert told.echo(flipcall.filled(5, fill)) == b"\3" * 5
    assert written == [5, 5, 5]
    assert seen == ["<5 bytes to be filled>"]
