"""What goes out comes back: every type msgspec can carry, there and back again."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from collections.abc import Callable
from typing import Any

import pytest

import flipcall

from .services import Circle, Colour, Echo, Point, Square, Tree

UTC = dt.timezone.utc

SENT = [
    ("integer", [0, -1, 127, 128, 2**31, -(2**63), 2**64 - 1]),
    ("real", [0.0, -1.5, 1e308, math.inf]),
    ("boolean", [True, False]),
    ("text", ["", "a", "ä€😀", "x" * 10_000, "\0"]),
    ("nothing", [None]),
    ("anything", [None, 1, "a", b"b", [1, {"a": [b"c"]}], {1: 2}]),
    ("octets", [[], [b""], [b"\x00\xff", b"x" * 300]]),
    ("numbers", [[], [1, 2, 3], list(range(5000))]),
    ("pair", [(1, "one")]),
    ("table", [{}, {"a": [1], "b": []}]),
    ("by_number", [{1: "one", -1: "minus one"}]),
    ("distinct", [set(), {1, 2, 3}]),
    ("maybe", [None, 3]),
    ("either", [1, "one", [1]]),
    ("point", [Point(0.5, -0.5)]),
    ("shape", [Circle(Point(0, 0), 1), Square(Point(1, 1), 2)]),
    ("tree", [Tree("root", [Tree("leaf"), Tree("twig", [Tree("bud")])])]),
    ("moment", [dt.datetime(2020, 6, 17, 1, 2, 3, 456789, UTC), dt.datetime(2020, 6, 17)]),
    ("day", [dt.date(2020, 6, 17)]),
    ("span", [dt.timedelta(days=1, microseconds=1)]),
    ("identity", [uuid.UUID(int=1)]),
    ("exact", [decimal.Decimal("0.10")]),
    ("colour", [Colour.RED, Colour.BLUE]),
]


@pytest.mark.parametrize(("method", "values"), SENT, ids=[name for name, _ in SENT])
def test_echo(echo: Echo, method: str, values: list[Any]) -> None:
    """A value of each type comes back equal, and of its type."""
    for value in values:
        back = getattr(echo, method)(value)
        assert back == value
        assert type(back) is type(value)


def test_every_method_of_echo_is_tried() -> None:
    """The table above forgets no method of the service."""
    assert {name for name, _ in SENT} == {name for name in vars(Echo) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("integer", "1"),
        ("text", 1),
        ("pair", (1,)),
        ("pair", ("one", 1)),
        ("table", {"a": 1}),
        ("point", {"x": 1.0}),
        ("shape", {"type": "triangle"}),
        ("colour", "green"),
        ("nothing", 0),
    ],
)
def test_wrong_argument_type(echo: Echo, method: str, value: Any) -> None:
    """An argument of another type than the signature says is INVALID_ARGUMENT, and the channel goes on."""
    with pytest.raises(flipcall.CallError, match=method) as caught:
        getattr(echo, method)(value)
    assert caught.value.status is flipcall.Status.INVALID_ARGUMENT
    assert echo.integer(1) == 1


def test_an_argument_that_cannot_be_sent(echo: Echo) -> None:
    """What msgspec cannot encode is a TypeError at once, as nothing was sent; the channel goes on."""
    with pytest.raises(TypeError):
        echo.anything(object())
    assert echo.integer(1) == 1


def test_a_result_that_is_not_what_the_signature_says(
    serve: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    """A handler that returns something else is the server's fault, told as such; the channel goes on."""

    class Liar(flipcall.Service):
        def number(self, lie: bool) -> int: ...

    class LiarServer(Liar):
        def number(self, lie: bool) -> int:
            return "a lie" if lie else 1  # type: ignore[return-value]

    serve(LiarServer())
    liar = connect(Liar)
    with pytest.raises(flipcall.ProtocolError, match="number"):
        liar.number(True)
    assert liar.number(False) == 1
