"""What worker processes serve, and must find in a module."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import asyncio
import os
from pathlib import Path

import flipcall


class Staff(flipcall.Service):
    """tests.faults.programs.Staff, for loops."""

    async def add(self, a: int, b: int) -> int: ...
    async def pid(self) -> int: ...
    async def sleep(self, seconds: float, mark: str = "") -> None: ...
    async def calls(self) -> int: ...


class LoopStaff(Staff):
    """Counts the calls it has served itself."""

    def __init__(self) -> None:
        self._calls = 0

    async def add(self, a: int, b: int) -> int:
        return a + b

    async def pid(self) -> int:
        return os.getpid()

    async def sleep(self, seconds: float, mark: str = "") -> None:
        if mark:
            Path(mark).touch()
        await asyncio.sleep(seconds)

    async def calls(self) -> int:
        self._calls += 1
        return self._calls


async def own_staff(peer: flipcall.Peer) -> LoopStaff:
    """One for each client."""
    return LoopStaff()
