"""What the `call` family echoes: one typed item, or so many bytes; as services, and as bytes for the peers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, Literal

import msgspec

import flipcall


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


ITEM = Item(id=1_000_001, name="sixteen letters!", payload=bytes(range(64)))
assert len(ITEM.name) == 16
assert len(ITEM.payload) == 64

Content = Literal["item", "bytes", "items"]


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
