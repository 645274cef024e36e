"""Sessions: one implementation for each client that a factory makes, ended once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import flipcall

from .services import Desk, DeskServer, Tally, TallyServer
from .waiting import wait_until


def test_each_client_has_its_own(serve: Callable[..., Any], connect: Callable[..., Tally]) -> None:
    """Two clients of a factory do not see one another; each end is told once."""
    ended: list[TallyServer] = []
    serve(lambda peer: TallyServer(peer, ended))
    one, two = connect(Tally), connect(Tally)
    assert [one.count(), one.count(), two.count()] == [1, 2, 1]
    one.close()
    wait_until(lambda: len(ended) == 1)
    assert two.count() == 2
    two.close()
    wait_until(lambda: len(ended) == 2)
    assert ended[0] is not ended[1]


def test_all_channels_of_a_client_share_one(serve: Callable[..., Any], connect: Callable[..., Tally]) -> None:
    """Many threads make many channels, and still one session, which ends once with the last of them."""
    ended: list[TallyServer] = []
    made: list[TallyServer] = []

    def factory(peer: flipcall.Peer) -> TallyServer:
        made.append(TallyServer(peer, ended))
        return made[-1]

    server = serve(factory)
    tally = connect(Tally, max_channels=4)
    with ThreadPoolExecutor(8) as threads:
        counts = list(threads.map(lambda _: tally.count(), range(400)))
    assert sorted(counts) == list(range(1, 401))
    tally.close()
    wait_until(lambda: server.channels == 0)
    assert len(made) == 1
    assert ended == made


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (lambda peer: 1 / 0, "ZeroDivisionError"),
        (lambda peer: "no service", "MisuseError|not a subclass"),
    ],
)
def test_a_factory_that_fails(
    serve: Callable[..., Any],
    connect: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
    factory: Any,
    says: str,
) -> None:
    """The client is told, and the server serves on."""
    serve(factory)
    for _ in range(2):
        with pytest.raises(flipcall.CallError, match=says) as info:
            connect(Tally)
        assert info.value.status is flipcall.Status.INTERNAL


def test_an_authorize_that_fails(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """Neither a no nor an exception lets anybody in."""
    answers: list[Any] = [False, True]

    def authorize(peer: flipcall.Peer) -> bool:
        if not answers:
            raise RuntimeError("undecided")
        return bool(answers.pop(0))

    serve(DeskServer(), authorize=authorize)
    with pytest.raises(flipcall.CallError) as info:
        connect(Desk)
    assert info.value.status is flipcall.Status.PERMISSION_DENIED
    assert connect(Desk).add(1) == 11
    with pytest.raises(flipcall.CallError, match="undecided") as info:
        connect(Desk)
    assert info.value.status is flipcall.Status.INTERNAL


def test_an_on_disconnect_that_raises(
    serve: Callable[..., Any], connect: Callable[..., Tally], capfd: pytest.CaptureFixture[str]
) -> None:
    """The hook's exception is shown, and hurts nobody."""

    class Bad(TallyServer):
        def on_disconnect(self) -> None:
            super().on_disconnect()
            raise RuntimeError("bad hook")

    ended: list[TallyServer] = []
    server = serve(lambda peer: Bad(peer, ended))
    connect(Tally).close()
    wait_until(lambda: ended and server.channels == 0)
    assert connect(Tally).count() == 1
