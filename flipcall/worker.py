"""A worker process, as the one that hands connections out to it knows it."""

import socket
import time
from collections import Counter
from enum import Enum, auto
from typing import Any

from .handover import PATIENCE_S, Word, say, unheard
from .limits import Client


class WorkerState(Enum):
    """See workers.py."""

    STARTING = auto()
    SERVING = auto()
    LEAVING = auto()
    GONE = auto()


class Worker:
    """One process. Only the crew, under its lock, changes it."""

    def __init__(self, process: Any, lane: socket.socket) -> None:
        self.process = process
        self.pid: int = process.pid
        self.lane = lane
        self.state = WorkerState.STARTING
        self.born = time.monotonic()
        self.channels: dict[int, Client] = {}
        self.clients: Counter[Client] = Counter()
        self.given = 0
        self._waits_since: float | None = None  # for it to hear of the oldest connection it may not know yet

    @property
    def takes(self) -> bool:
        """Whether it may be handed connections. One that is starting finds them when it begins."""
        return self.state in (WorkerState.STARTING, WorkerState.SERVING)

    def listens(self) -> bool:
        """Whether it has heard of what it was handed, or has had little time to. One that stands still (SIGSTOP, a
        debugger, a handler that keeps the GIL) is handed no more than came in that time, if another one listens.
        """
        if self._waits_since is None:
            return True
        if not unheard(self.lane):
            self._waits_since = None
            return True
        return time.monotonic() - self._waits_since < PATIENCE_S

    def ask(self, number: int) -> bool:
        """See survey.Asked."""
        try:
            say(self.lane, Word.ASK, number)
        except OSError:
            return False
        return True

    def took(self, client: Client) -> None:
        """It was handed one more connection. After listens()."""
        if self._waits_since is None:
            self._waits_since = time.monotonic()
        self.given += 1
        self.channels[self.given] = client
        self.clients[client] += 1

    def left(self, number: int) -> Client | None:
        """Its channel `number` has ended; whose that was."""
        client = self.channels.pop(number, None)
        if client is not None:
            self.clients[client] -= 1
            if not self.clients[client]:
                del self.clients[client]
        return client
