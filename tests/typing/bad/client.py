"""Mistakes that a type checker must find; each line that is one ends in the word error in a comment."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import flipcall


class Geo(flipcall.Service):
    """A contract."""

    def distance(self, a: float, b: float) -> float: ...
    def raw(self, data: bytes) -> bytes: ...
    def log(self, to: flipcall.Fd) -> None: ...
    def scan(self, near: float) -> Iterator[float]: ...
    def total(self, xs: Iterator[float]) -> float: ...
    def scale(self, grid: NDArray[np.float32]) -> None: ...


class Wrong(Geo):
    """An implementation that keeps the contract's word badly."""

    def distance(self, a: str, b: float) -> float:  # error
        return b


def ones(place: memoryview) -> None:
    """What fills a place."""


async def later(place: memoryview) -> None:
    """What nobody awaits."""


def doubles(place: NDArray[np.float64]) -> None:
    """What fills an array."""


geo = flipcall.connect(Geo, "s")
geo.distance("a", 1.0)  # error
geo.distance(1.0)  # error
geo.distnace(1.0, 2.0)  # error
text: str = geo.distance(1.0, 2.0)  # error
for word in geo.scan(1.0):
    text = word  # error
geo.scan(1.0)[0]  # error
geo.total(iter(["a"]))  # error
geo.total(1.0)  # error
flipcall.view(geo.raw, "a")  # error
flipcall.view(geo.raw)  # error
flipcall.view(geo.distance, 1.0, 2.0)  # error
flipcall.into(bytearray(1), geo.raw, data=1)  # error
geo.raw(flipcall.filled("3", ones))  # error
geo.raw(flipcall.filled(3))  # error
geo.raw(flipcall.filled((3,), ones))  # error
geo.raw(flipcall.filled(3, str))  # error
geo.raw(flipcall.filled(3, lambda place: "a"))  # error
geo.raw(flipcall.filled(3, later))  # error
geo.raw(flipcall.filled(3, ones, np.float32))  # error
geo.raw(flipcall.filled(3, doubles, np.float64))  # error
geo.scale(flipcall.filled(3, doubles, np.float64))  # error
geo.scale(flipcall.filled(3, doubles, np.float32))  # error
geo.log(3)  # error
flipcall.Fd("a")  # error
flipcall.connect(Geo, "s", transport="pigeon")  # error
flipcall.connect(int, "s")  # error
flipcall.connect(Geo, "s", timeout="long")  # error
flipcall.with_options(geo, timeout=1.0).distance(b"", 1.0)  # error
flipcall.Server(42, "s")  # error
flipcall.Server(Geo(), "s", windows=3)  # error
flipcall.connect(Geo, "s", interceptors=[len])  # error
flipcall.Server(Geo(), "s", interceptors=[lambda call: call])  # error
