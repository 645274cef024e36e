"""A service with bulk parameters, and what fills them: for the tests of filled()."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flipcall
from flipcall._core import ffi
from tests.conformance.plain import WINDOW

MESSAGE = 4 * WINDOW


class Shelf(flipcall.Service):
    """Bulk parameters of several kinds, alone and in company."""

    def same(self, data: bytes) -> bytes: ...
    def glue(self, a: bytes, b: bytearray, n: int, c: bytes = b"") -> bytes: ...
    def where(self, data: memoryview) -> int | None: ...
    def remaining(self, data: bytes) -> float: ...
    def write(self, fd: flipcall.Fd, data: bytes) -> int: ...
    def tag(self, prefix: memoryview, n: int) -> Iterator[bytes]: ...
    def join(self, parts: Iterator[bytes]) -> bytes: ...
    def back(self, n: int) -> bytes: ...
    def plain(self, data: list[bytes]) -> int: ...


class ShelfServer(Shelf):
    """Counts the calls of `same`, remembers where `tag`'s prefix lay."""

    def __init__(self) -> None:
        self.calls = 0
        self.prefix_at: int | None = None

    def same(self, data: bytes) -> bytes:
        self.calls += 1
        return data

    def glue(self, a: bytes, b: bytearray, n: int, c: bytes = b"") -> bytes:
        return (a + b + c) * n

    def where(self, data: memoryview) -> int | None:
        return place_in_window(data)

    def remaining(self, data: bytes) -> float:
        return flipcall.context().remaining() or 0.0

    def write(self, fd: flipcall.Fd, data: bytes) -> int:
        with fd:
            return os.write(fd.fileno(), data)

    def tag(self, prefix: memoryview, n: int) -> Iterator[bytes]:
        self.prefix_at = place_in_window(prefix)
        yield from (bytes(prefix) + b"%d" % i for i in range(n))

    def join(self, parts: Iterator[bytes]) -> bytes:
        return b"".join(parts)

    def back(self, n: int) -> bytes:
        return flipcall.filled(n, ones)

    def plain(self, data: list[bytes]) -> int:
        return len(data)


def place_in_window(view: memoryview) -> int | None:
    """Where it begins, from the start of the packet window that it lies in; None elsewhere."""
    address = int(ffi.cast("uintptr_t", ffi.from_buffer(view)))
    for line in Path("/proc/self/maps").read_text().splitlines():
        found = re.match(r"(\w+)-(\w+) .*memfd:flipcall", line)
        if found and int(found[1], 16) <= address < int(found[2], 16):
            return address - int(found[1], 16)
    return None


def ones(place: memoryview) -> None:
    """Fill it."""
    place[:] = b"1" * len(place)


def pattern(data: bytes) -> bytes:
    """What is sent: filled() with this."""

    def fill(place: memoryview) -> None:
        place[:] = data

    return flipcall.filled(len(data), fill)


def channels(client: Any) -> list[Any]:
    """The channels it has."""
    return list(client._flipcall.pool.channels())
