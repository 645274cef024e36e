"""Which switch a connection uses: the best both can do, the one asked for, or a clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flipcall
from flipcall import ClosedError, UnsupportedError, switch
from flipcall.lowlevel import Endpoint, Side, WaitPolicy
from flipcall.testing import pair, windows
from tests.switch.support import Thread, able, answer_as, connect_as, needs_no_swap, needs_swap


class Sum(flipcall.Service):
    """What the calls here call."""

    def add(self, a: int, b: int) -> int: ...


class SumServer(Sum):
    """Adds."""

    def add(self, a: int, b: int) -> int:
        return a + b


def _windows(**switches: str | None) -> tuple[Endpoint, Endpoint]:
    one, other = windows()
    client = Endpoint(one, Side.CLIENT, switch=switches.get("client"), policy=WaitPolicy.frugal())
    try:
        server = Endpoint(other, Side.SERVER, switch=switches.get("server"), policy=WaitPolicy.frugal())
    except BaseException:
        client.close()
        raise
    return client, server


def test_default_is_the_best_that_works() -> None:
    """Both sides take the first switch whose probe says yes, and say so."""
    best = next(s.name for s in switch.SWITCHES if s.probe()[0])
    with pair() as both:
        assert both.client.switch == both.server.switch == best
        assert f"switch={best} " in repr(both.client)


@needs_no_swap
def test_stock_kernel_uses_something_else_than_swap() -> None:
    """Where FUTEX_SWAP is missing nobody offers it."""
    assert switch.SWAP not in switch.offered(None)
    with pair() as both:
        assert both.client.switch != switch.SWAP


def test_unknown_switch_is_a_mistake() -> None:
    """A name that no switch has is a ValueError that tells the names there are."""
    with pytest.raises(ValueError, match="no switch is called 'teleport': there are .*swap.*futex"):
        switch.offered("teleport")


@needs_no_swap
@pytest.mark.parametrize("side", Side)
def test_asked_for_and_not_there(side: Side) -> None:
    """An endpoint asked for a switch that cannot work here says why, before anything is connected."""
    one, other = windows()
    other.close()
    with pytest.raises(UnsupportedError, match="switch swap cannot work here: ENOSYS"):
        Endpoint(one, side, switch="swap")
    one.close()


@needs_no_swap
def test_calls_asked_for_and_not_there(tmp_path: Path) -> None:
    """So do connect() and Server()."""
    with pytest.raises(UnsupportedError, match="swap cannot work here"):
        flipcall.Server(SumServer(), str(tmp_path / "s"), switch="swap")
    with pytest.raises(UnsupportedError, match="swap cannot work here"):
        flipcall.connect(Sum, str(tmp_path / "s"), switch="swap")


@pytest.mark.parametrize("asking", ["client", "server"])
def test_only_one_side_can(monkeypatch: pytest.MonkeyPatch, asking: str) -> None:
    """One side insists on swap, the other has only the futex: no connection, and the server says what each has."""
    one, other = windows()
    with able(monkeypatch, "swap", "futex"):
        insisting = Endpoint(
            one, Side.CLIENT if asking == "client" else Side.SERVER, switch="swap", policy=WaitPolicy.frugal()
        )
    with able(monkeypatch, "futex"):
        unable = Endpoint(other, Side.SERVER if asking == "client" else Side.CLIENT)
    client, server = (insisting, unable) if asking == "client" else (unable, insisting)
    accepting = Thread(server.accept)
    with pytest.raises(ClosedError):
        client.connect()
    error = accepting.error()
    assert isinstance(error, UnsupportedError)
    words = "futex here, swap there" if asking == "client" else "swap here, futex there"
    assert words in str(error)
    client.close()
    server.close()


def test_only_one_side_can_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody insists: they meet on the futex."""
    one, other = windows()
    with able(monkeypatch, "swap", "futex"):
        client = Endpoint(one, Side.CLIENT)
    with able(monkeypatch, "futex"):
        server = Endpoint(other, Side.SERVER)
    accepting = Thread(server.accept)
    client.connect()
    assert accepting.error() is None
    assert client.switch == server.switch == "futex"
    client.close()
    server.close()


def test_calls_refuse_with_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A client that insists on swap hears from a server that cannot why it was refused."""
    with able(monkeypatch, "futex"):
        server = flipcall.Server(SumServer(), str(tmp_path / "s"))
    with server, able(monkeypatch, "swap", "futex"):
        with pytest.raises(flipcall.CallError) as refused:
            flipcall.connect(Sum, str(tmp_path / "s"), switch="swap")
        assert refused.value.status is flipcall.Status.FAILED_PRECONDITION
        assert "futex here, swap there" in refused.value.message


OFFERS: list[tuple[Any, str | None]] = [
    ({}, "futex"),  # gVisor
    ({"sleepers": 1}, "futex"),
    ({"sleepers": 1, "switches": ["teleport", "futex"]}, "futex"),
    ({"sleepers": 1, "switches": [None, 1, {"a": []}, ["swap"], "futex"]}, "futex"),
    ({"sleepers": 1, "switches": "futex"}, "futex"),
    ({"sleepers": 1, "switches": None}, "futex"),
    ({"sleepers": 1, "switches": {"futex": 1}}, "futex"),
    ({"sleepers": 1, "switches": []}, None),
    ({"sleepers": 1, "switches": ["teleport"]}, None),
    ({"sleepers": 1, "switches": [0] * 1000}, None),
    ({"sleepers": 1, "switches": ["FUTEX", "futex ", "\x1b[2J\n"]}, None),
]


@pytest.mark.parametrize(("offer", "chosen"), OFFERS, ids=str)
def test_server_meets_strange_offers(offer: Any, chosen: str | None) -> None:
    """The server takes what it understands of an offer; with nothing in it, it says so in one printable line."""
    one, other = windows()
    server = Endpoint(other, Side.SERVER)
    client = connect_as(server, one, offer)
    if chosen is None:
        with pytest.raises(UnsupportedError) as none:
            server.accept()
        assert str(none.value).isprintable()
        assert len(str(none.value)) < 400
    else:
        server.accept()
        assert server.switch == chosen
    client.close()
    server.close()


@pytest.mark.parametrize(
    "answer", ["teleport", "", None, 7, ["futex"], {"futex": 1}, "futex\n", "\x1b[2J" * 900]
)
def test_client_meets_strange_answers(answer: Any) -> None:
    """A server that takes what was not offered: the client gives up, with an error and no crash."""
    client, server = _windows()
    answering = Thread(lambda: answer_as(server, {"sleepers": 1, "switch": answer}))
    with pytest.raises(UnsupportedError) as error:
        client.connect()
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400
    assert answering.error() is None
    assert client.state.name == "OVER"
    client.close()
    server.close()


def test_client_does_not_take_what_it_did_not_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server cannot talk a client into a switch that the client did not offer."""
    one, other = windows()
    with able(monkeypatch, "futex"):
        client = Endpoint(one, Side.CLIENT)
    server = Endpoint(other, Side.SERVER)
    answering = Thread(lambda: answer_as(server, {"sleepers": 1, "switch": "swap"}))
    with pytest.raises(UnsupportedError, match="futex here, swap there"):
        client.connect()
    assert answering.error() is None
    client.close()
    server.close()


@needs_swap
def test_asked_for_and_there() -> None:
    """Asked for by name on both sides, by one side, or by nobody: swap it is."""
    for client_asks in ("swap", None):
        for server_asks in ("swap", None):
            client, server = _windows(client=client_asks, server=server_asks)
            accepting = Thread(server.accept)
            client.connect()
            assert accepting.error() is None
            assert client.switch == server.switch == "swap"
            client.close()
            server.close()


@needs_swap
def test_futex_can_still_be_asked_for() -> None:
    """A side that asks for the futex gets it, from a peer that would rather swap."""
    client, server = _windows(client="futex")
    accepting = Thread(server.accept)
    client.connect()
    assert accepting.error() is None
    assert client.switch == server.switch == "futex"
    client.close()
    server.close()
