"""A call in the same process (inprocess.py): what its handler is told, and a streaming call as each side sees it.

The same doors as WindowFlow (flow.py). The two sides are threads; what they say goes through two queues.
"""

import os
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from .context import NO_METADATA, Context, within
from .dispatch import Dispatcher
from .errors import ClosedError, DeadlineExceeded
from .frame import CANCEL, END, ITEMS, MORE, REPLY, TIMEOUT_NONE
from .items import Items
from .liveness import Peer
from .metadata import WITH_METADATA, unwrapped
from .method import encode

_AHEAD = 64  # items that a producer publishes before it waits to be asked for more
_EARLY = 1  # code of ITEMS: control stays where it is


class LocalCall:
    """What context() tells of a call. `given_up`: its caller wants no more."""

    def __init__(self, timeout_us: int, metadata: Mapping[str, str]) -> None:
        self.peer = Peer(os.getpid(), os.geteuid(), os.getegid())
        self.metadata = metadata
        self.given_up = False
        self._deadline = None if timeout_us == TIMEOUT_NONE else time.monotonic_ns() + timeout_us * 1000

    def deadline_ns(self) -> int | None:
        """See Context.deadline_ns."""
        return self._deadline

    def cancelled(self) -> bool:
        """See Context.cancelled."""
        return self.given_up

    def reply_view(self, n: int) -> memoryview:
        """See Context.reply_view."""
        return memoryview(bytearray(n))

    @property
    def late(self) -> bool:
        """Its deadline has passed."""
        return self._deadline is not None and time.monotonic_ns() >= self._deadline


def opened(number: int, timeout_us: int, body: bytes) -> tuple[int, LocalCall, bytes]:
    """A method's number, the call, and its body, from what a stub gives."""
    metadata: Mapping[str, str] = NO_METADATA
    if number & WITH_METADATA:
        metadata, body = unwrapped(body)
    return number & 0xFFFF, LocalCall(timeout_us, metadata), body


class _Word(NamedTuple):
    kind: int
    code: int = 0
    body: bytes = b""
    attachment: bytes = b""


class LocalFlow:
    """One side of a streaming call; the same doors as WindowFlow. The client's opens the other one, in a
    thread."""

    def __init__(self, incoming: Items | None, dispatcher: Dispatcher) -> None:
        self.items: list[Any] = []
        self.mine = True
        self.kind = 0
        self.code = 0
        self.body = self.attachment = b""
        self.call: LocalCall | None = None
        self._incoming = incoming
        self._dispatcher = dispatcher
        self._inbox: queue.SimpleQueue[_Word] = queue.SimpleQueue()
        self._other: LocalFlow | None = None
        self._thread: threading.Thread | None = None
        self._ahead = 0
        self._stopped = False
        self._ended = False

    # ---- the client's beginning and end -------------------------------------------------------------------

    def open(self, number: int, timeout_us: int, body: bytes, attachment: Any) -> None:
        """See WindowFlow.open."""
        number, call, body = opened(number, timeout_us, body)
        there = LocalFlow(self._dispatcher.incoming(number), self._dispatcher)
        there._other, self._other = self, there
        there.call = self.call = call
        self.mine = False
        self._thread = threading.Thread(
            target=there._serve, args=(number, body, bytes(attachment)), name="flipcall-local", daemon=True
        )
        self._thread.start()

    def _serve(self, number: int, body: bytes, attachment: bytes) -> None:
        assert self.call is not None
        with within(Context(self.call)):
            try:
                status, out, data, _ = self._dispatcher.answer(
                    number, body, memoryview(attachment), flow=self
                )
            except BaseException as e:  # what would end a channel
                status, out, data, _ = self._dispatcher.failed(e)
        self._say(_Word(REPLY, status, out, bytes(data)))

    @property
    def over(self) -> bool:
        """The handler has let go."""
        return self._thread is None or not self._thread.is_alive()

    def give_up(self) -> None:
        """Client: it wants no more."""
        if self.call is not None:
            self.call.given_up = True
            self._say(_Word(CANCEL))

    def end(self) -> None:
        """Client: it was closed. Any thread."""
        self._ended = True
        self.give_up()
        self._inbox.put(_Word(CANCEL))  # whoever waits looks up

    # ---- either side --------------------------------------------------------------------------------------

    def give(self, item: Any) -> bool:
        """See WindowFlow.give."""
        return self.publish(encode(item))

    def publish(self, item: bytes) -> bool:
        """See WindowFlow.publish."""
        self._say(_Word(ITEMS, _EARLY, item))
        self._ahead += 1
        while not self._inbox.empty():  # nothing but CANCEL is said out of turn
            self.take()
        if self._stopped:
            return False
        if self._ahead < _AHEAD:
            return True
        self.flip()
        return self.kind == MORE

    def publish_bulk(self, data: memoryview) -> bool:
        """See WindowFlow.publish_bulk."""
        return self.publish(encode(data))

    def flip(self) -> None:
        """See WindowFlow.flip."""
        self.hand(ITEMS)
        while not self.mine:
            self.take()

    def hand(self, kind: int, code: int = 0) -> None:
        """See WindowFlow.hand."""
        self._ahead = 0
        self.mine = False
        self._say(_Word(kind, code))

    def take(self) -> None:
        """See WindowFlow.take."""
        word = self._heard()
        if word.kind == CANCEL:
            self._stopped = True
            if self._thread is None and not self.mine:  # the handler's side: control comes with it
                self.mine, self.kind = True, CANCEL
            return
        if word.kind == ITEMS and word.body and self._incoming is not None:
            self.items.append(self._incoming.decode_one(word.body))
        if word.kind == ITEMS and word.code == _EARLY:
            return
        self.mine, self.kind, self.code = True, word.kind, word.code
        if word.kind == REPLY:
            self.body, self.attachment = word.body, word.attachment

    def _heard(self) -> _Word:
        assert self.call is not None
        deadline = self.call.deadline_ns()
        left = None if deadline is None else max(0.0, (deadline - time.monotonic_ns()) / 1e9)
        try:
            word = self._inbox.get(timeout=left)
        except queue.Empty:
            raise DeadlineExceeded("the other side did not answer before the deadline") from None
        if self._ended:
            raise ClosedError("this client is closed")
        return word

    def drain(self) -> list[Any]:
        """See WindowFlow.drain."""
        items, self.items = self.items, []
        return items

    def regain(self) -> None:
        """See WindowFlow.regain."""
        self._incoming = None
        if not self.mine:
            self._say(_Word(CANCEL))
        while not self.mine:
            word = self._inbox.get()
            if word.kind == CANCEL or word.kind in (MORE, END) or (word.kind == ITEMS and not word.code):
                self.mine, self.kind = True, word.kind

    def _say(self, word: _Word) -> None:
        assert self._other is not None
        self._other._inbox.put(word)
