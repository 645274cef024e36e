"""The service of the `call` family: the typed call of the issue, echoed."""

from __future__ import annotations

import msgspec

import flipcall


class Item(msgspec.Struct):
    """Three fields of three kinds; `payload` is inside the message, not an attachment."""

    id: int
    name: str
    payload: bytes


class Echo(flipcall.Service):
    """The contract."""

    def echo(self, item: Item) -> Item:
        """`item`, as it came."""
        raise NotImplementedError


class EchoServer(Echo):
    """The implementation: what is left is the cost of a call."""

    def echo(self, item: Item) -> Item:
        return item


ITEM = Item(id=1_000_001, name="sixteen letters!", payload=bytes(range(64)))
assert len(ITEM.name) == 16
assert len(ITEM.payload) == 64
