"""Calls of different kinds in turn over one channel: each reaches its own method, whatever came before it."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import flipcall


class Mixed(flipcall.Service):
    """Two plain methods, and one of each kind that takes another way."""

    def a(self, x: int) -> str: ...
    def b(self, x: int) -> str: ...
    def bulk(self, x: bytes) -> bytes: ...
    def items(self, n: int) -> Iterator[str]: ...
    def fails(self, x: int) -> str: ...


class MixedServer(Mixed):
    def a(self, x: int) -> str:
        return f"a{x}"

    def b(self, x: int) -> str:
        return f"b{x}"

    def bulk(self, x: bytes) -> bytes:
        return x + x

    def items(self, n: int) -> Iterator[str]:
        return (f"i{i}" for i in range(n))

    def fails(self, x: int) -> str:
        raise ValueError(x)


def _a(mixed: Mixed) -> None:
    assert mixed.a(1) == "a1"


def _b(mixed: Mixed) -> None:
    assert mixed.b(2) == "b2"


def _bulk(mixed: Mixed) -> None:
    assert mixed.bulk(b"x") == b"xx"


def _large(mixed: Mixed) -> None:
    assert mixed.bulk(bytes(50_000)) == bytes(100_000)


def _items(mixed: Mixed) -> None:
    assert list(mixed.items(2)) == ["i0", "i1"]


def _fails(mixed: Mixed) -> None:
    with pytest.raises(ValueError, match="3"):
        mixed.fails(3)


def _late(mixed: Mixed) -> None:
    with contextlib.suppress(flipcall.DeadlineExceeded):  # or the answer was there at the first look
        assert flipcall.with_options(mixed, timeout=0).a(1) == "a1"


def test_any_three_in_turn(serve: Callable[..., Any], connect: Callable[..., Mixed]) -> None:
    """Every sequence of three kinds of call, one after the other over the same channel."""
    serve(MixedServer(), message_max=1 << 20)
    mixed = connect(Mixed, max_channels=1)
    for calls in itertools.product([_a, _b, _bulk, _large, _items, _fails, _late], repeat=3):
        for call in calls:
            call(mixed)
