"""The fixtures of the conformance suite, and a service that tells what came along."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

from collections.abc import Callable, Iterator

import flipcall
from tests.conformance.conftest import connect, kind, loop, path, serve, stack, transport

__all__ = ["connect", "kind", "loop", "path", "serve", "stack", "transport"]


class Told(flipcall.Service):
    def metadata(self) -> dict[str, str]: ...
    def add(self, a: int, b: int = 2, *, times: int = 1) -> int: ...
    def echo(self, data: bytes) -> bytes: ...
    def remaining(self) -> float | None: ...
    def fail(self, how: str) -> None: ...
    def run(self) -> str: ...
    def count(self, n: int) -> Iterator[int]: ...
    def total(self, numbers: Iterator[int]) -> int: ...


class ToldServer(Told):
    def __init__(self) -> None:
        self.job: Callable[[], object] = str
        self.calls = 0

    def metadata(self) -> dict[str, str]:
        return dict(flipcall.context().metadata)

    def add(self, a: int, b: int = 2, *, times: int = 1) -> int:
        self.calls += 1
        return (a + b) * times

    def echo(self, data: bytes) -> bytes:
        return data

    def remaining(self) -> float | None:
        return flipcall.context().remaining()

    def fail(self, how: str) -> None:
        self.calls += 1
        raise {
            "unavailable": flipcall.CallError(flipcall.Status.UNAVAILABLE, "not now"),
            "value": ValueError("no"),
            "file": FileNotFoundError(2, "No such file or directory", "/nowhere"),
            "internal": flipcall.CallError(flipcall.Status.INTERNAL, "broken"),
        }[how]

    def run(self) -> str:
        return str(self.job())

    def count(self, n: int) -> Iterator[int]:
        yield from range(n)

    def total(self, numbers: Iterator[int]) -> int:
        return sum(numbers)
