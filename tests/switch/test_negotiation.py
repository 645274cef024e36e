"""Which switch a connection uses: the best both can do, the one asked for, or a clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flipcall
from flipcall import ClosedError, UnsupportedError, switch
from flipcall.lowlevel import Endpoint, Side, WaitPolicy
from flipcall.testing import Pair, pair, windows
from tests.switch.support import Thread, able, answer_as, needs_no_swap, needs_swap, offer_as


class Sum(flipcall.Service):
    """What the calls here call."""

    def add(self, a: int, b: int) -> int: ...


class SumServer(Sum):
    """Adds."""

    def add(self, a: int, b: int) -> int:
        return a + b


def _unconnected(*, client: str | None = None, server: str | None = None) -> Pair:
    one, other = windows()
    frugal = WaitPolicy.frugal()
    return Pair(
        Endpoint(one, Side.CLIENT, switch=client, policy=frugal),
        Endpoint(other, Side.SERVER, switch=server, policy=frugal),
    )


def _connect(both: Pair) -> None:
    accepting = Thread(both.server.accept)
    both.client.connect()
    assert accepting.error() is None


def test_default_is_the_best_that_works() -> None:
    """Both sides take the first switch whose probe says yes, and say so."""
    best = next(s.name for s in switch.SWITCHES if s.automatic and s.probe()[0])
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
    with pytest.raises(ValueError, match=r"no switch is called 'teleport': there are .*swap.*futex"):
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
    both = Pair(insisting, unable) if asking == "client" else Pair(unable, insisting)
    with both:
        accepting = Thread(both.server.accept)
        with pytest.raises(ClosedError):
            both.client.connect()
        error = accepting.error()
        assert isinstance(error, UnsupportedError)
        words = "futex here, swap there" if asking == "client" else "swap here, futex there"
        assert words in str(error)


def test_only_one_side_can_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody insists: they meet on the futex."""
    one, other = windows()
    with able(monkeypatch, "swap", "futex"):
        client = Endpoint(one, Side.CLIENT)
    with able(monkeypatch, "futex"):
        server = Endpoint(other, Side.SERVER)
    with Pair(client, server) as both:
        _connect(both)
        assert client.switch == server.switch == "futex"


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
    with _unconnected() as both:
        offer_as(both.client, offer)
        if chosen is not None:
            both.server.accept()
            assert both.server.switch == chosen
            return
        with pytest.raises(UnsupportedError) as none:
            both.server.accept()
        assert str(none.value).isprintable()
        assert len(str(none.value)) < 400


@pytest.mark.parametrize(
    "answer", ["teleport", "", None, 7, ["futex"], {"futex": 1}, "futex\n", "\x1b[2J" * 200]
)
def test_client_meets_strange_answers(answer: Any) -> None:
    """A server that takes what was not offered: the client gives up, with an error and no crash."""
    with _unconnected() as both:
        answering = Thread(lambda: answer_as(both.server, {"sleepers": 1, "switch": answer}))
        with pytest.raises(UnsupportedError) as error:
            both.client.connect()
        assert answering.error() is None
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 400
        with pytest.raises(ClosedError):
            both.client.send_recv(0)


def test_client_does_not_take_what_it_did_not_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server cannot talk a client into a switch that the client did not offer."""
    one, other = windows()
    with able(monkeypatch, "futex"):
        client = Endpoint(one, Side.CLIENT)
    server = Endpoint(other, Side.SERVER)
    with Pair(client, server):
        answering = Thread(lambda: answer_as(server, {"sleepers": 1, "switch": "swap"}))
        with pytest.raises(UnsupportedError, match="futex here, swap there"):
            client.connect()
        assert answering.error() is None


@needs_swap
@pytest.mark.parametrize("client", ["swap", None])
@pytest.mark.parametrize("server", ["swap", None])
def test_asked_for_and_there(client: str | None, server: str | None) -> None:
    """Asked for by name on both sides, by one side, or by nobody: swap it is."""
    with _unconnected(client=client, server=server) as both:
        _connect(both)
        assert both.client.switch == both.server.switch == "swap"


@needs_swap
def test_futex_can_still_be_asked_for() -> None:
    """A side that asks for the futex gets it, from a peer that would rather swap."""
    with _unconnected(client="futex") as both:
        _connect(both)
        assert both.client.switch == both.server.switch == "futex"
