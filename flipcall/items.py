"""The items of a stream: how they become bytes, one by one, and come back, many at once (proto/rpc.md)."""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from .bulk import OCTETS, bulk_of
from .errors import MisuseError
from .rights import holds_fd

_STREAMS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)
ONCE = frozenset(_STREAMS) - {
    collections.abc.Iterable
}  # of these no list is one: they can be nothing but streams
encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode


def is_asynchronous(annotation: Any) -> bool:
    """Whether `annotation` is a stream for `async for`."""
    return typing.get_origin(annotation) in _STREAMS[3:]


def item_type(annotation: Any) -> Any:
    """What `annotation` is a stream of, None if it is none."""
    if typing.get_origin(annotation) in _STREAMS:
        return typing.get_args(annotation)[0]
    return None


class Items:
    """The codec of one stream. Immutable: any thread may use it."""

    def __init__(self, kind: Any, where: str) -> None:
        """Raises MisuseError for what msgspec cannot decode."""
        self.kind = kind
        wire = bytes if kind in OCTETS else kind
        try:
            if wire is not bytes and (bulk_of(kind) is not None or holds_fd(kind)):
                raise MisuseError(f"{where}: arrays and descriptors cannot be items of a stream")
            self._decode: Callable[[bytes], list[Any]] = msgspec.msgpack.Decoder(list[wire]).decode  # type: ignore[valid-type]
            self._decode_one: Callable[[bytes], Any] = msgspec.msgpack.Decoder(wire).decode
        except TypeError as e:
            raise MisuseError(f"{where}: msgspec cannot decode {kind!r}: {e}") from e
        self._convert = None if wire is kind else kind
        self.bulk = kind in OCTETS

    def decode(self, batch: bytes) -> list[Any]:
        """Items that came together, as one msgpack array. Raises what msgspec does."""
        items = self._decode(batch)
        return items if self._convert is None else [self._convert(item) for item in items]

    def decode_one(self, data: bytes) -> Any:
        """An item that came alone, because it is large."""
        item = self._decode_one(data)
        return item if self._convert is None else self._convert(item)
