"""The services the suite calls. Handlers do one plain thing each, so that what a test sees is the call's doing."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import datetime
import decimal
import enum
import os
import threading
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

import flipcall


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(msgspec.Struct):
    x: float
    y: float


class Circle(msgspec.Struct, tag="circle"):
    centre: Point
    radius: float


class Square(msgspec.Struct, tag="square"):
    corner: Point
    side: float


class Tree(msgspec.Struct):
    name: str
    children: list[Tree] = []


class Echo(flipcall.Service):
    """One method for each kind of thing that can be sent."""

    def integer(self, x: int) -> int: ...
    def real(self, x: float) -> float: ...
    def boolean(self, x: bool) -> bool: ...
    def text(self, x: str) -> str: ...
    def nothing(self, x: None) -> None: ...
    def anything(self, x: Any) -> Any: ...
    def octets(self, x: list[bytes]) -> list[bytes]: ...
    def numbers(self, x: list[int]) -> list[int]: ...
    def pair(self, x: tuple[int, str]) -> tuple[int, str]: ...
    def table(self, x: dict[str, list[int]]) -> dict[str, list[int]]: ...
    def by_number(self, x: dict[int, str]) -> dict[int, str]: ...
    def distinct(self, x: set[int]) -> set[int]: ...
    def maybe(self, x: int | None) -> int | None: ...
    def either(self, x: int | str | list[int]) -> int | str | list[int]: ...
    def point(self, x: Point) -> Point: ...
    def shape(self, x: Circle | Square) -> Circle | Square: ...
    def tree(self, x: Tree) -> Tree: ...
    def moment(self, x: datetime.datetime) -> datetime.datetime: ...
    def day(self, x: datetime.date) -> datetime.date: ...
    def span(self, x: datetime.timedelta) -> datetime.timedelta: ...
    def identity(self, x: uuid.UUID) -> uuid.UUID: ...
    def exact(self, x: decimal.Decimal) -> decimal.Decimal: ...
    def colour(self, x: Colour) -> Colour: ...


class EchoServer(Echo):
    """Every method gives back what it was given."""

    def __getattribute__(self, name: str) -> Any:
        if name in vars(Echo) and not name.startswith("_"):
            return lambda x: x
        return super().__getattribute__(name)


class Desk(flipcall.Service):
    """Arguments of every shape, and what a handler can find out and do."""

    def add(self, a: int, b: int = 10, *, times: int = 1) -> int: ...
    def must(self, a: int = 1, *, b: int) -> list[int]: ...
    def none(self) -> None: ...
    def whoami(self) -> tuple[int, int]: ...
    def remaining(self) -> float | None: ...
    def run(self, name: str) -> Any: ...


class DeskServer(Desk):
    """`run` does what the test has put into `jobs` under that name."""

    def __init__(self) -> None:
        self.jobs: dict[str, Callable[[], Any]] = {}

    def add(self, a: int, b: int = 10, *, times: int = 1) -> int:
        return (a + b) * times

    def must(self, a: int = 1, *, b: int) -> list[int]:
        return [a, b]

    def none(self) -> None:
        return None

    def whoami(self) -> tuple[int, int]:
        peer = flipcall.context().peer
        return peer.pid, peer.uid

    def remaining(self) -> float | None:
        return flipcall.context().remaining()

    def run(self, name: str) -> Any:
        return self.jobs[name]()


class Bulk(flipcall.Service):
    """Bytes that travel beside the message."""

    def same(self, data: bytes) -> bytes: ...
    def array(self, data: bytearray) -> bytearray: ...
    def view(self, data: memoryview) -> memoryview: ...
    def kinds(self, a: bytes, b: bytearray, c: memoryview) -> list[str]: ...
    def glue(self, a: bytes, n: int, b: bytes = b"-", *, c: bytes = b"") -> bytes: ...
    def size(self, data: bytes) -> int: ...
    def make(self, n: int) -> bytes: ...
    def filled(self, n: int, keep: int) -> bytes: ...
    def strange(self, how: str) -> bytes: ...


class BulkServer(Bulk):
    def same(self, data: bytes) -> bytes:
        return data

    def array(self, data: bytearray) -> bytearray:
        data.reverse()
        return data

    def view(self, data: memoryview) -> memoryview:
        return data

    def kinds(self, a: bytes, b: bytearray, c: memoryview) -> list[str]:
        return [f"{type(x).__name__} {len(x)}" for x in (a, b, c)]

    def glue(self, a: bytes, n: int, b: bytes = b"-", *, c: bytes = b"") -> bytes:
        return a * n + b + c

    def size(self, data: bytes) -> int:
        return len(data)

    def make(self, n: int) -> bytes:
        return bytes(n)

    def filled(self, n: int, keep: int) -> bytes:
        view = flipcall.context().reply_view(n)
        view[:] = os.urandom(1) * n
        view[:4] = b"head"
        return view[:keep]  # type: ignore[return-value]

    def strange(self, how: str) -> bytes:
        import array

        made: dict[str, Any] = {
            "wide": lambda: memoryview(array.array("I", [1, 2, 3])),
            "array": lambda: array.array("I", [1, 2, 3]),
            "holes": lambda: memoryview(b"abcdef")[::2],
            "matrix": lambda: memoryview(b"abcdef").cast("B", (2, 3)),
            "empty": lambda: memoryview(array.array("I")),
            "text": lambda: "no bytes",
            "none": lambda: None,
        }
        return made[how]()  # type: ignore[no-any-return]


class Parcel(msgspec.Struct):
    name: str
    fd: flipcall.Fd | None = None
    more: list[flipcall.Fd] = []


class Courier(flipcall.Service):
    """File descriptors in every place they can be in."""

    def same(self, fd: flipcall.Fd) -> flipcall.Fd: ...
    def maybe(self, fd: flipcall.Fd | None = None) -> bool: ...
    def count(self, fds: list[flipcall.Fd], n: int = 0) -> int: ...
    def parcel(self, parcel: Parcel) -> Parcel: ...
    def write(self, fd: flipcall.Fd, data: bytes) -> int: ...
    def read(self, fd: flipcall.Fd, n: int) -> bytes: ...
    def keep(self, fd: flipcall.Fd) -> None: ...
    def run(self, name: str) -> list[flipcall.Fd]: ...
    def plain(self, x: int) -> int: ...


class CourierServer(Courier):
    """`run` does what the test has put into `jobs`; `keep` keeps."""

    def __init__(self) -> None:
        self.jobs: dict[str, Callable[[], list[flipcall.Fd]]] = {}
        self.kept: list[flipcall.Fd] = []

    def same(self, fd: flipcall.Fd) -> flipcall.Fd:
        return fd

    def maybe(self, fd: flipcall.Fd | None = None) -> bool:
        if fd is not None:
            fd.close()
        return fd is not None

    def count(self, fds: list[flipcall.Fd], n: int = 0) -> int:
        for fd in fds:
            fd.close()
        return len(fds)

    def parcel(self, parcel: Parcel) -> Parcel:
        return parcel

    def write(self, fd: flipcall.Fd, data: bytes) -> int:
        with fd:
            return os.write(fd.fileno(), data)

    def read(self, fd: flipcall.Fd, n: int) -> bytes:
        with fd:
            return os.read(fd.fileno(), n)

    def keep(self, fd: flipcall.Fd) -> None:
        self.kept.append(fd)

    def run(self, name: str) -> list[flipcall.Fd]:
        return self.jobs[name]()

    def plain(self, x: int) -> int:
        return x


class Tally(flipcall.Service):
    """A service with a state for each client."""

    def count(self) -> int: ...


class TallyServer(Tally):
    """Counts its calls; says when it began and ended."""

    def __init__(self, peer: flipcall.Peer, ended: list[TallyServer]) -> None:
        self.peer = peer
        self.lock = threading.Lock()
        self.calls = 0
        self._ended = ended

    def count(self) -> int:
        with self.lock:
            self.calls += 1
            return self.calls

    def on_disconnect(self) -> None:
        self._ended.append(self)
