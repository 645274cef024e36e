"""A service changes, and its two sides not on the same day: what fits goes on, what does not is named."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

import flipcall
from flipcall.conformance.signatures import contract
from flipcall.handshake import (
    Compare,
    Shapes,
    Welcome,
    answer_decoder,
    recv_message,
    send_message,
)
from tests.faults.raw import RawServer, deadline, dial, hello

Serve = Callable[..., Any]


class OldItem(msgspec.Struct):
    name: str


class NewItem(msgspec.Struct):
    name: str
    price: float = 1.5


class Stranger(msgspec.Struct):
    name: int
    colour: str
    note: str = ""


def shop(item: type[Any], parameters: str = "", *, more: str = "") -> type[flipcall.Service]:
    """The service Shop, whose items are of this type."""
    names: dict[str, Any] = {"flipcall": flipcall, "Item": item}
    source = (
        f"class Shop(flipcall.Service):\n    def sell(self, item: Item{parameters}) -> Item: ...\n    {more}"
    )
    exec(source, names)
    made: type[flipcall.Service] = names["Shop"]
    return made


def selling(service: type[flipcall.Service]) -> flipcall.Service:
    """An implementation whose sell() returns the item, after telling what else it got."""
    told: list[Any] = []

    def sell(self: Any, item: Any, *rest: Any, **named: Any) -> Any:
        told.append((rest, named))
        return item

    made: Any = type("Selling", (service,), {"sell": sell, "told": told, "count": lambda self: len(told)})()
    return made


COUNT = "def count(self) -> int: ..."
PARAMETER = ", times: int = 1"


def test_an_old_client_of_a_new_server(serve: Serve, connect: Callable[..., Any]) -> None:
    """What the server has gained is left out, and ignored in what it says."""
    serve(selling(shop(NewItem, PARAMETER, more=COUNT)))
    assert connect(shop(OldItem)).sell(OldItem("tea")) == OldItem("tea")


def test_a_new_client_of_an_old_server(serve: Serve, connect: Callable[..., Any]) -> None:
    """What the client has gained is ignored, has its default, or is told when it is used."""
    served: Any = selling(shop(OldItem))
    serve(served)
    client = connect(shop(NewItem, PARAMETER + ", *, more: bytes = b''", more=COUNT))
    assert client.sell(NewItem("tea", 9.0)) == NewItem("tea", 1.5)
    assert client.sell(item=NewItem("tea")) == NewItem("tea")
    with pytest.raises(flipcall.CallError, match="no parameter times") as info:
        client.sell(NewItem("tea"), 2)
    assert info.value.status is flipcall.Status.UNIMPLEMENTED
    with pytest.raises(flipcall.CallError, match="no parameter times"):
        client.sell(NewItem("tea"), more=b"x")
    with pytest.raises(flipcall.CallError, match="count"):
        client.count()
    assert served.told == [((), {}), ((), {})]


def test_further_channels(serve: Serve, connect: Callable[..., Any]) -> None:
    """Each channel of such a client is welcome."""
    meet = threading.Barrier(4)

    class Meeting(shop(NewItem, PARAMETER)):  # type: ignore[misc]
        def sell(self, item: NewItem, times: int = 1) -> NewItem:
            meet.wait(10)
            return item

    serve(Meeting())
    client = connect(shop(OldItem), max_channels=4)
    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(client.sell, [OldItem("a")] * 4)] == [OldItem("a")] * 4


def test_what_does_not_fit_is_named_field_by_field(serve: Serve, connect: Callable[..., Any]) -> None:
    """The refusal has every field, which side does what, and both signatures."""
    serve(selling(shop(NewItem)))
    with pytest.raises(flipcall.CallError) as info:
        connect(shop(Stranger, ", size: int"))
    assert info.value.status is flipcall.Status.FAILED_PRECONDITION
    for told in (
        "the server has no parameter size",
        "parameter item.name: int at the client, str at the server",
        "the result.name: str at the server, int at the client",
        "the result.colour: the server lacks it, the client requires it",
        "sell(item: tests.conformance.test_evolution.Stranger, size: int)",
        "sell(item: tests.conformance.test_evolution.NewItem)",
    ):
        assert told in info.value.message
    assert "note" not in info.value.message


def test_many_methods_differ(serve: Serve, connect: Callable[..., Any]) -> None:
    """They are compared in several messages, each within the limit."""
    line = "    def m{}(self, a: {}) -> int:\n        return 1\n"
    serve(contract("Thing", "".join(line.format(i, "float") for i in range(200)))())
    client = connect(contract("Thing", "".join(line.format(i, "int") for i in range(200))))
    assert client.m199(2) == 1


@pytest.mark.parametrize(
    "answer",
    [Shapes({}), Compare(["sell"]), {"type": "shapes", "methods": {"sell": {"params": [], "result": 5}}}],
)
def test_a_client_that_does_not_say(serve: Serve, path: str, answer: Any, caplog: Any) -> None:
    """Asked for the shape of its methods it says something else: it is hung up on, the others are served."""
    service = shop(OldItem)
    serve(selling(service))
    with dial(path) as sock:
        said = hello(service)
        send_message(
            sock,
            msgspec.structs.replace(
                said, methods={"sell": msgspec.structs.replace(said.methods["sell"], fingerprint="0")}
            ),
        )
        asked, _ = recv_message(sock, answer_decoder, deadline())
        assert asked == Compare(["sell"])
        send_message(sock, answer)
        with pytest.raises(flipcall.ClosedError):
            recv_message(sock, answer_decoder, deadline())
    flipcall.connect(service, path).close()


def test_a_server_that_asks_for_more(path: str) -> None:
    """A server that asks for a method the client did not name breaks the protocol."""

    def run(server: RawServer) -> None:
        sock, _ = server.take()
        send_message(sock, Compare(["close"]))
        sock.settimeout(10)
        assert sock.recv(1) == b""

    with RawServer(path) as server, ThreadPoolExecutor(1) as threads:
        serving = threads.submit(run, server)
        with pytest.raises(flipcall.ProtocolError, match="close"):
            flipcall.connect(shop(OldItem), path)
        serving.result(20)


def test_what_fits_is_asked_once_a_session(serve: Serve, path: str) -> None:
    """A channel that joins a session is not asked again, another client is."""
    service = shop(OldItem)
    serve(selling(shop(NewItem)))
    session = b""
    for asks in (True, False):
        with dial(path) as sock:
            send_message(sock, msgspec.structs.replace(hello(service, "socket"), session=session))
            answer, _ = recv_message(sock, answer_decoder, deadline())
            assert isinstance(answer, Compare) == asks
            if asks:
                shape = flipcall.service.contract_of(service).methods[0].shape  # type: ignore[attr-defined]
                send_message(sock, Shapes({"sell": shape}))
                answer, _ = recv_message(sock, answer_decoder, deadline())
            assert isinstance(answer, Welcome)
            session = answer.session
            if asks:
                first = sock.dup()
    first.close()
