"""What interceptors may do on both sides, over both transports, and that they are in the way they were given."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

import flipcall
from flipcall.calllog import log_calls
from flipcall.interceptor import ClientCall, ClientProceed, ServerCall, ServerProceed
from flipcall.metadata import forward
from tests.interceptors.conftest import Told, ToldServer

Serve = Callable[..., Any]


def tagging(tag: str, seen: list[str]) -> Any:
    """An interceptor of either side that tells when it was entered and left."""

    def interceptor(call: Any, proceed: Any) -> Any:
        seen.append(f"{tag} {call.service}.{call.method}")
        try:
            return proceed(call)
        finally:
            seen.append(f"/{tag}")

    return interceptor


def test_the_first_is_the_outermost(serve: Serve, connect: Callable[..., Any]) -> None:
    """On both sides, also when the handler raises."""
    seen: list[str] = []
    serve(ToldServer(), interceptors=[tagging("c", seen), tagging("d", seen)])
    client = connect(Told, interceptors=[tagging("a", seen), tagging("b", seen)])
    assert client.add(1) == 3
    order = ["a Told.add", "b Told.add", "c Told.add", "d Told.add", "/d", "/c", "/b", "/a"]
    assert seen == order
    seen.clear()
    with pytest.raises(ValueError, match="no"):
        client.fail("value")
    assert seen == [word.replace("add", "fail") for word in order]


def test_metadata_reaches_the_handler_and_only_of_its_call(serve: Serve, connect: Callable[..., Any]) -> None:
    """What interceptors add is there, in calls of every kind; the next call without has none."""
    serve(ToldServer())

    def sign(call: ClientCall, proceed: ClientProceed) -> Any:
        if call.method != "remaining":
            call.metadata["user"] = "Jürgen"
        return proceed(call)

    client = connect(Told, interceptors=[sign], max_channels=1)
    plain = connect(Told, max_channels=1)
    for _ in range(2):
        assert client.metadata() == {"user": "Jürgen"}
        assert client.add(1, b=3, times=2) == 8
        assert client.echo(b"x" * 1000) == b"x" * 1000
        assert client.remaining() > 0
        assert plain.metadata() == {}


def test_the_call_may_be_changed(serve: Serve, connect: Callable[..., Any]) -> None:
    """Arguments and the timeout on the client's side, arguments on the server's, results on both."""

    def outwards(call: ClientCall, proceed: ClientProceed) -> Any:
        call.timeout = 7.0
        if call.method == "add":
            call.args = (call.args[0] * 10, *call.args[1:])
            return proceed(call) + 1000
        return proceed(call)

    def inwards(call: ServerCall, proceed: ServerProceed) -> Any:
        if call.method == "add":
            assert call.context.peer.uid >= 0
            call.args = (call.args[0] + 1, *call.args[1:])
        return proceed(call)

    serve(ToldServer(), interceptors=[inwards])
    client = connect(Told, interceptors=[outwards])
    assert client.add(1) == 1000 + 11 + 2
    assert client.add(1, times=2) == 1000 + (11 + 2) * 2
    assert 5 < client.remaining() <= 7


def test_auth(serve: Serve, connect: Callable[..., Any]) -> None:
    """A server's interceptor may refuse: nothing of the handler runs, and the caller gets its error."""
    server = ToldServer()

    def check(call: ServerCall, proceed: ServerProceed) -> Any:
        if call.metadata.get("token") != "secret":
            raise flipcall.CallError(flipcall.Status.UNAUTHENTICATED, "who are you?")
        return proceed(call)

    def show(call: ClientCall, proceed: ClientProceed) -> Any:
        call.metadata["token"] = "secret"
        return proceed(call)

    serve(server, interceptors=[check])
    assert connect(Told, interceptors=[show]).add(1) == 3
    with pytest.raises(flipcall.CallError) as info:
        connect(Told).add(1)
    assert info.value.status is flipcall.Status.UNAUTHENTICATED
    assert server.calls == 1


def test_an_interceptor_may_answer_by_itself(serve: Serve, connect: Callable[..., Any]) -> None:
    """A cache: the second call does not leave."""
    server = ToldServer()
    cache: dict[Any, Any] = {}

    def cached(call: ClientCall, proceed: ClientProceed) -> Any:
        key = (call.method, call.args)
        if key not in cache:
            cache[key] = proceed(call)
        return cache[key]

    serve(server)
    client = connect(Told, interceptors=[cached])
    assert client.add(1) == client.add(1) == 3
    assert server.calls == 1


@pytest.mark.parametrize("metadata", [{1: "a"}, {"a": 1}, {"a": b"x"}])
def test_metadata_that_is_none(serve: Serve, connect: Callable[..., Any], metadata: Any) -> None:
    """Anything but str by str is the caller's mistake, told before anything is sent."""
    serve(ToldServer())

    def wrong(call: ClientCall, proceed: ClientProceed) -> Any:
        call.metadata.update(metadata)
        return proceed(call)

    client = connect(Told, interceptors=[wrong])
    with pytest.raises(flipcall.MisuseError, match="str by str"):
        client.add(1)


def test_streams(serve: Serve, connect: Callable[..., Any]) -> None:
    """Of a streaming method the result is the iterator, and the metadata is there while it lasts."""
    seen: list[str] = []

    def sign(call: ClientCall, proceed: ClientProceed) -> Any:
        call.metadata["user"] = "me"
        return proceed(call)

    class Asking(ToldServer):
        def count(self, n: int) -> Any:
            for i in range(n):
                assert flipcall.context().metadata == {"user": "me"}
                yield i

    serve(Asking(), interceptors=[tagging("s", seen)])
    client = connect(Told, interceptors=[sign, tagging("c", seen)])
    assert list(client.count(2000)) == list(range(2000))
    assert client.total(iter(range(2000))) == sum(range(2000))
    assert seen.count("s Told.count") == seen.count("c Told.total") == 1


def test_the_log_of_calls(
    serve: Serve, connect: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A line for each call on each side, with what it raised; arguments only when asked for."""
    caplog.set_level(logging.INFO, "flipcall.calls")
    serve(ToldServer(), interceptors=[log_calls(arguments=True)])
    client = connect(Told, interceptors=[log_calls(level=logging.DEBUG)])
    client.add(1)
    with pytest.raises(ValueError, match="no"):
        client.fail("value")
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0].startswith("Told.add(1,) took ")
    assert texts[1].startswith("Told.fail('value',) raised ValueError after ")
    assert texts[2].startswith("Told.fail raised ValueError after ")
    assert [r.levelno for r in caplog.records] == [logging.INFO, logging.WARNING, logging.WARNING]


class Chained(ToldServer):
    """A server whose handlers ask another one."""

    def __init__(self, behind: Any) -> None:
        super().__init__()
        self.behind = behind

    def remaining(self) -> float | None:
        found: float | None = self.behind.remaining()
        return found

    def metadata(self) -> dict[str, str]:
        found: dict[str, str] = self.behind.metadata()
        return found


@pytest.fixture
def chained(serve: Serve, connect: Callable[..., Any], tmp_path: Any) -> Any:
    """A client of a server whose handlers ask another one."""
    back = str(tmp_path / "back")
    serve(ToldServer(), at=back)
    serve(Chained(connect(Told, at=back, timeout=None, interceptors=[forward("user", "none")])))

    def sign(call: ClientCall, proceed: ClientProceed) -> Any:
        call.metadata.update(user="me", password="secret")
        return proceed(call)

    return connect(Told, interceptors=[sign], timeout=5.0)


def test_a_handlers_calls_inherit_its_deadline(
    serve: Serve, connect: Callable[..., Any], tmp_path: Any
) -> None:
    """Whatever their own timeout, they have no more time than the handler; less, if they are given less."""
    back = str(tmp_path / "back")
    serve(ToldServer(), at=back)
    front = str(tmp_path / "front")
    behind = {t: connect(Told, at=back, timeout=t) for t in (None, 60.0, 1.0)}
    server = Chained(behind[None])
    serve(server, at=front)
    caller = connect(Told, at=front, timeout=5.0)
    for timeout, most in ((None, 5.0), (60.0, 5.0), (1.0, 1.0)):
        server.behind = behind[timeout]
        assert most - 1 < caller.remaining() <= most
        assert behind[timeout].remaining() is None or behind[timeout].remaining() > most - 1
    endless = connect(Told, at=front, timeout=None)
    server.behind = behind[None]
    assert endless.remaining() is None
    server.behind = behind[60.0]
    assert 55 < endless.remaining() <= 60


def test_a_handlers_call_ends_at_the_inherited_deadline(
    serve: Serve, connect: Callable[..., Any], tmp_path: Any
) -> None:
    """A handler that waits for another server without a limit of its own lets go when its caller does."""
    import threading

    back, front = str(tmp_path / "back"), str(tmp_path / "front")
    held, ended = threading.Event(), threading.Event()
    slow, middle = ToldServer(), ToldServer()
    slow.job = lambda: held.wait(20)
    serve(slow, at=back)
    behind = connect(Told, at=back, timeout=None)

    def ask() -> str:
        try:
            return str(behind.run())
        except flipcall.DeadlineExceeded:
            ended.set()
            raise

    middle.job = ask
    serve(middle, at=front)
    with pytest.raises(flipcall.DeadlineExceeded):
        connect(Told, at=front, timeout=0.2).run()
    assert ended.wait(10)
    held.set()


def test_only_what_is_chosen_is_passed_on(chained: Any) -> None:
    """forward() names the keys; nothing else of the metadata goes to the next server."""
    assert chained.metadata() == {"user": "me"}
