"""The services of the `call` family: they echo an item or bytes, stream items, hand bytes out, take some."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, Literal

import msgspec

import flipcall

STORED = 1 << 20  # bytes of a download


class Item(msgspec.Struct):
    """Three fields of three kinds; `payload` is inside the message, not an attachment."""

    id: int
    name: str
    payload: bytes


class Echo(flipcall.Service):
    """The contract of the typed call."""

    def echo(self, item: Item) -> Item:
        """`item`, as it came."""
        raise NotImplementedError


class EchoServer(Echo):
    """The implementation: what is left is the cost of a call."""

    def echo(self, item: Item) -> Item:
        return item


class Bulk(flipcall.Service):
    """The contract of the bulk call: outside the codec."""

    def echo(self, data: bytes) -> bytes:
        """`data`, as it came."""
        raise NotImplementedError


class BulkServer(Bulk):
    """The implementation."""

    def echo(self, data: bytes) -> bytes:
        return data


class Feed(flipcall.Service):
    """The contract of the stream."""

    def items(self, count: int) -> Iterator[Item]:
        """So many items, as quickly as they are taken."""
        raise NotImplementedError

    def ticks(self, count: int, gap_ns: int) -> Iterator[int]:
        """So many times `gap_ns` apart; each is CLOCK_MONOTONIC when it was sent, in ns."""
        raise NotImplementedError


class FeedServer(Feed):
    """The implementation."""

    def items(self, count: int) -> Iterator[Item]:
        yield from repeat(ITEM, count)

    def ticks(self, count: int, gap_ns: int) -> Iterator[int]:
        clock = time.monotonic_ns
        for _ in range(count):
            due = clock() + gap_ns
            while (now := clock()) < due:
                pass
            yield now


class Store(flipcall.Service):
    """The contract of downloads and uploads."""

    def read(self, n: int) -> bytes:
        """The first `n` bytes there are."""
        raise NotImplementedError

    def write(self, data: memoryview) -> int:
        """How many bytes came."""
        raise NotImplementedError


class StoreServer(Store):
    """The implementation: the bytes are there already, so one copy into the window is all."""

    def __init__(self) -> None:
        self._data = os.urandom(STORED)

    def read(self, n: int) -> bytes:
        return self._data[:n]  # all of it: no copy

    def write(self, data: memoryview) -> int:
        return len(data)


ITEM = Item(id=1_000_001, name="sixteen letters!", payload=bytes(range(64)))
assert len(ITEM.name) == 16
assert len(ITEM.payload) == 64

Content = Literal["item", "bytes", "items", "store"]


class Codec(msgspec.Struct, frozen=True):
    """How one content becomes bytes and comes back, for peers that carry bytes; alike both ways, as in an echo.

    decode takes any buffer and keeps nothing of it.
    """

    encode: Callable[[Any], bytes]
    decode: Callable[[Any], Any]
    handle: Callable[[Any], Any]

    def answer(self, request: Any) -> bytes:
        """What the server does with a request."""
        return self.encode(self.handle(self.decode(request)))


CODECS: dict[Content, Codec] = {
    "item": Codec(msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Item).decode, EchoServer().echo),
    "bytes": Codec(bytes, bytes, BulkServer().echo),
}
