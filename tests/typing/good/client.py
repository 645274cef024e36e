"""Every way to use the everyday door, typed as a user's strict type checker wants it."""

from __future__ import annotations

import io
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

import flipcall
from flipcall.calllog import log_calls
from flipcall.interceptor import ClientCall, ClientInterceptor, ClientProceed, ServerCall, ServerProceed
from flipcall.metadata import forward
from flipcall.retry import Retry
from flipcall.stats import Statistics
from flipcall.testing import local


class Point(msgspec.Struct):
    x: float
    y: float


class Geo(flipcall.Service):
    """A contract."""

    def distance(self, a: Point, b: Point, *, unit: str = "m") -> float: ...
    def raw(self, data: bytes) -> bytes: ...
    def nearest(self, a: Point) -> Point | None: ...
    def open(self, name: str, log: flipcall.Fd | None = None) -> flipcall.Fd: ...
    def scan(self, near: Point) -> Iterator[Point]: ...
    def total(self, points: Iterator[Point]) -> float: ...
    def merge(self, a: bytearray, b: memoryview, c: bytes = b"") -> bytes: ...
    def scale(self, by: float, grid: NDArray[np.float32]) -> NDArray[np.float32]: ...
    def send(self, parts: Iterator[bytes]) -> int: ...


class GeoServer(Geo):
    """Its implementation."""

    def distance(self, a: Point, b: Point, *, unit: str = "m") -> float:
        context = flipcall.context()
        left: float | None = context.remaining()
        return 0.0 if context.cancelled or left == 0.0 else abs(a.x - b.x)

    def raw(self, data: bytes) -> bytes:
        return data

    def nearest(self, a: Point) -> Point | None:
        return a if flipcall.context().peer.pid else None

    def open(self, name: str, log: flipcall.Fd | None = None) -> flipcall.Fd:
        return flipcall.Fd.dup(0) if log is None else log

    def scan(self, near: Point) -> Iterator[Point]:
        yield near

    def total(self, points: Iterator[Point]) -> float:
        return sum(p.x for p in points)

    def merge(self, a: bytearray, b: memoryview, c: bytes = b"") -> bytes:
        return bytes(a) + bytes(b) + c

    def scale(self, by: float, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        return grid

    def send(self, parts: Iterator[bytes]) -> int:
        return sum(map(len, parts))


@flipcall.register_error
class Mine(Exception):
    """Crosses as itself."""


def made(peer: flipcall.Peer) -> GeoServer:
    """A factory."""
    return GeoServer()


def log(call: ClientCall, proceed: ClientProceed) -> object:
    """A client's interceptor."""
    call.metadata["user"] = call.method
    return proceed(call)


def check(call: ServerCall, proceed: ServerProceed) -> object:
    """A server's."""
    if call.metadata.get("user") is None or call.context.peer.uid:
        raise flipcall.CallError(flipcall.Status.UNAUTHENTICATED, call.service)
    return proceed(call)


def watched() -> None:
    """Interceptors, built-in services, a client without a connection."""
    interceptors: list[ClientInterceptor] = [log, log_calls(), Retry({"distance"}), forward("user")]
    with (
        flipcall.Server(made, "s", interceptors=[check, log_calls()]) as server,
        flipcall.connect(Geo, "s", interceptors=interceptors) as geo,
        flipcall.connect(Statistics, "s") as statistics,
    ):
        server.health.set("Geo", False)
        print(geo.distance(Point(0, 0), Point(1, 1)), [m.p99_us for m in statistics.read().methods])
    with local(GeoServer()) as alone:
        near: Point | None = alone.nearest(Point(0, 0))
        print(near)


def ones(place: memoryview) -> None:
    """What fills a place."""
    place[:] = b"1" * len(place)


def halve(grid: NDArray[np.float32]) -> object:
    """What fills an array; its result is nobody's."""
    return np.divide(grid, 2, out=grid)


def uploads(geo: Geo, source: io.BufferedReader) -> None:
    """Arguments that are written in place, each of the type of its parameter."""
    geo.raw(flipcall.filled(3, ones))
    geo.raw(flipcall.filled(3, source.readinto))
    geo.merge(flipcall.filled(3, ones), flipcall.filled(3, ones), c=flipcall.filled(3, ones))
    grid: NDArray[np.float32] = geo.scale(2.0, flipcall.filled((3, 4), halve, dtype=np.float32))
    geo.scale(2.0, flipcall.filled(3, lambda a: a.fill(1.0), np.dtype(np.float32)))
    later: bytes = flipcall.filled(3, lambda place: None)
    with flipcall.view(geo.raw, later) as seen:
        print(seen[0] + grid.size)
    print(flipcall.into(bytearray(3), geo.raw, flipcall.filled(3, ones)))


def main() -> None:
    """Serve and call."""
    with (
        flipcall.Server(GeoServer(), "s", policy=flipcall.WaitPolicy.latency()),
        flipcall.connect(Geo, "s", timeout=None, transport="socket") as geo,
    ):
        metres: float = geo.distance(Point(0, 0), Point(3, 4), unit="m")
        data: bytes = flipcall.with_options(geo, timeout=0.5).raw(b"")
        near = geo.nearest(Point(0, 0))
        if near is not None:
            print(near.x, metres, data)
        with flipcall.view(geo.raw, b"ab") as seen, geo.open("a", log=flipcall.Fd(2)) as fd:
            first: int = seen[0]
            number: int = fd.fileno()
            print(first, number, flipcall.into(bytearray(2), geo.raw, data=b"ab") + 1)
        total: float = geo.total(p for p in geo.scan(Point(0, 0)))
        for point in geo.scan(Point(total, 0)):
            print(point.x)
        try:
            geo.raw(b"")
        except flipcall.CallError as e:
            status: flipcall.Status = e.status
            print(status.name)
        except flipcall.PeerDiedError as e:
            print(e.pid + 1)
        own: Geo = geo
        own.close()
    flipcall.Server(made, "s", authorize=lambda peer: peer.uid == 0).stop()
    flipcall.serve(made, "s")
