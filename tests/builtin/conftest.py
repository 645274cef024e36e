"""The fixtures of the conformance suite, and one service to look at."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import threading

import flipcall
from tests.conformance.conftest import connect, kind, loop, path, serve, stack, transport

__all__ = ["connect", "kind", "loop", "path", "serve", "stack", "transport"]


class Desk(flipcall.Service):
    """A desk to work at."""

    def add(self, a: int, b: int = 2) -> int:
        """The sum."""

    def fail(self) -> None: ...
    def hold(self) -> None: ...
    def never(self, data: bytes) -> bytes: ...


class DeskServer(Desk):
    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()

    def add(self, a: int, b: int = 2) -> int:
        return a + b

    def fail(self) -> None:
        raise ValueError("no")

    def hold(self) -> None:
        self.entered.release()
        self.go_on.wait(20)
