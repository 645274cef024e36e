"""Handover: flipcall.handover's worker, in an event loop, which must not wait for the dispatcher to listen."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from .. import handover
from ..handover import Word, say

_AGAIN_S = 0.01


class Handover(handover.Handover):
    """left() is for the loop's thread only; everything else is as there."""

    def __init__(
        self,
        sock: socket.socket,
        told_to_stop: Callable[[], None],
        tell: Callable[[], bytes],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(sock, told_to_stop, tell)
        self._loop = loop
        self._ended: deque[int] = deque()  # channels, of which the dispatcher has not been told
        self._waits = False

    def left(self, connection: socket.socket) -> None:
        """See flipcall.handover.Handover. What the dispatcher does not hear now it is told later, in order."""
        number = self._numbers.pop(connection, None)
        if number is not None:
            self._ended.append(number)
            if not self._waits:
                self._say_ended()

    def _say_ended(self) -> None:
        self._waits = False
        try:
            while self._ended:
                say(self.socket, Word.LEFT, self._ended[0])
                self._ended.popleft()
        except BlockingIOError:
            self._waits = True
            self._loop.call_later(_AGAIN_S, self._say_ended)
        except OSError:
            self._ended.clear()  # it is gone: accept() finds out
