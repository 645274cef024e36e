"""The service the vectors in proto/vectors speak of."""

from __future__ import annotations

import flipcall


class Vectors(flipcall.Service):
    """Three methods; their numbers are 0, 1 and 2."""

    def add(self, a: int, b: int = 10) -> int: ...
    def echo(self, data: bytes) -> bytes: ...
    def fail(self, how: str) -> None: ...


class VectorsServer(Vectors):
    def add(self, a: int, b: int = 10) -> int:
        return a + b

    def echo(self, data: bytes) -> bytes:
        return data

    def fail(self, how: str) -> None:
        raise {
            "value": ValueError("bad", 1),
            "os": FileNotFoundError(2, "No such file or directory", "/x"),
            "call": flipcall.CallError(flipcall.Status.ABORTED, "no"),
        }[how]
