"""A busy ring as people have it in production: the structure of vLLM's shm message queue, for calls.

vLLM's way (vllm/distributed/device_communicators/shm_broadcast.py), which ring.py is leaner than: a ring of ten
chunks in shared memory; beside each a flag that says it is written, and one for each reader that has read it; a
writer and a reader that are context managers around a chunk, and take views of flags and chunk anew for each
look; a lock taken and released as the memory fence, before each look and around each flag; the clock read at
each look in vain, for the time-out and for a reader that sleeps when it has been idle for long; sched_yield
between looks; a byte before each message that says whether it lies in the chunk.

What differs: that queue goes one way and has many readers, so that a call is two of them with one reader each.
The messages are msgspec's, as with every peer here, where vLLM pickles; msgpack does not know its own end, so a
length goes before. The memory is a memfd, and a chunk as large as the bench's messages. What vLLM does where it
is not busy (large messages, and in later versions waking an idle reader, over ZeroMQ) is left out.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from bench.peers.base import Address, Call, Life
from bench.peers.ring import BusyRing

CHUNKS = 10
LENGTH = slice(1, 5)
HEAD = 5  # bytes before a message: is it in the chunk, and its length
FLAGS = 2  # written, and read by the one reader
PATIENCE_S = 0.1  # of the server, between two questions whether to end
BUSY_S = 10.0  # a reader that has found nothing for so long sleeps
SLEEP_S = 0.1


_fence = threading.Lock()


class VllmRing(BusyRing):
    """Two queues, and a server that serves one client."""

    def ends(self, stack: ExitStack, clients: int, size: int) -> tuple[list[int], list[int]]:
        if clients != 1:
            raise ValueError("a reader of such a queue polls nothing else")
        fd = os.memfd_create("vllm-ring", os.MFD_CLOEXEC)
        stack.callback(os.close, fd)
        os.ftruncate(fd, 2 * _Queue.room(size))
        return [fd], [fd]

    def serve(self, address: Address, life: Life) -> None:
        requests, answers = _queues(address)
        answer, ended = address.codec.answer, life.ended()
        life.ready()
        while not ended():
            try:
                out = requests.dequeue(answer, PATIENCE_S)
            except TimeoutError:
                continue
            answers.enqueue(out)

    @contextmanager
    def connect(self, address: Address) -> Iterator[Call]:
        requests, answers = _queues(address)
        encode, decode = address.codec.encode, address.codec.decode

        def call(content: Any) -> Any:
            requests.enqueue(encode(content))
            return answers.dequeue(decode)

        yield call


def _queues(address: Address) -> tuple[_Queue, _Queue]:
    """For requests and for answers."""
    (fd,) = address.fds
    room = _Queue.room(address.size)
    view = memoryview(mmap.mmap(fd, 2 * room))
    return _Queue(view[:room], address.size), _Queue(view[room:], address.size)


def memory_fence() -> None:
    """Whatever was stored before is seen before what is stored after."""
    with _fence:
        pass


class _Idle:
    """How a reader waits: it yields, and sleeps once that has been in vain for long."""

    def __init__(self) -> None:
        self._active = time.monotonic()

    def active(self) -> None:
        """Something came."""
        self._active = time.monotonic()

    def wait(self) -> None:
        """Between two looks."""
        if time.monotonic() >= self._active + BUSY_S:
            time.sleep(SLEEP_S)
        else:
            os.sched_yield()


class _Queue:
    """One way. A process is its writer or its reader."""

    def __init__(self, memory: memoryview, size: int) -> None:
        self._memory = memory
        self._chunk = size + HEAD
        self._at = 0
        self._idle = _Idle()

    @staticmethod
    def room(size: int) -> int:
        """Bytes of memory for messages of `size`, in whole pages."""
        return -(-CHUNKS * (size + HEAD + FLAGS) // mmap.PAGESIZE) * mmap.PAGESIZE

    @contextmanager
    def _data(self) -> Iterator[memoryview]:
        start = self._at * self._chunk
        with self._memory[start : start + self._chunk] as view:
            yield view

    @contextmanager
    def _flags(self) -> Iterator[memoryview]:
        start = self._chunk * CHUNKS + self._at * FLAGS
        with self._memory[start : start + FLAGS] as view:
            yield view

    @contextmanager
    def _writing(self, timeout: float | None) -> Iterator[memoryview]:
        started = time.monotonic()
        while True:
            with self._flags() as flags:
                memory_fence()
                if flags[0] and sum(flags[1:]) != FLAGS - 1:
                    os.sched_yield()
                    _check(started, timeout)
                    continue
                flags[0] = 0
                with self._data() as data:
                    yield data
                for reader in range(1, FLAGS):
                    flags[reader] = 0
                memory_fence()
                flags[0] = 1
                memory_fence()
                self._at = (self._at + 1) % CHUNKS
                return

    @contextmanager
    def _reading(self, timeout: float | None) -> Iterator[memoryview]:
        started = time.monotonic()
        while True:
            with self._flags() as flags:
                memory_fence()
                if not flags[0] or flags[1]:
                    self._idle.wait()
                    _check(started, timeout)
                    continue
                with self._data() as data:
                    yield data
                flags[1] = 1
                memory_fence()
                self._at = (self._at + 1) % CHUNKS
                self._idle.active()
                return

    def enqueue(self, message: bytes, timeout: float | None = None) -> None:
        """Write a message into the next chunk, once that is free. Raises TimeoutError."""
        end = HEAD + len(message)
        if end > self._chunk:
            raise ValueError(f"a message of {len(message)} bytes in a chunk of {self._chunk}")
        with self._writing(timeout) as data:
            data[0] = 0
            data[LENGTH] = len(message).to_bytes(4, "little")
            data[HEAD:end] = message

    def dequeue(self, decode: Callable[[Any], Any], timeout: float | None = None) -> Any:
        """What `decode` makes of the next message, where it lies. Raises TimeoutError."""
        with self._reading(timeout) as data:
            if data[0]:
                raise ValueError("a message that is not in its chunk")
            return decode(data[HEAD : HEAD + int.from_bytes(data[LENGTH], "little")])


def _check(started: float, timeout: float | None) -> None:
    if time.monotonic() - started > (float("inf") if timeout is None else timeout):
        raise TimeoutError
