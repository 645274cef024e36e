"""The busy ring people roll by hand: two slots of shared memory a client, polled from Python with sched_yield.

As vLLM's shm message queue does it between its engine and its workers: flags and lengths are words of the shared
memory, messages are written through a memoryview and decoded where they lie. The server polls the slots of all its
clients in turn, and never sleeps: that is what it costs.

     0  u32 flag of the request: its number    64  u32 flag of the answer
     4  u32 its length                         68  u32 its length
  4096  the request                        4096 + room  the answer

Length and message are stored before the flag, and nothing says so to the processor: right on x86, whose stores
stay in order, and only there.
"""

from __future__ import annotations

import mmap
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from bench.peers.base import Address, Call, Life, Peer
from bench.placement import UnavailableError

REQUEST, ANSWER = 0, 16  # words
DATA = mmap.PAGESIZE
PATIENCE = 4096  # looks in vain between two questions whether to end
NUMBERS = 1 << 30  # below it Python's integers are quickest


class BusyRing(Peer):
    """One ring for each client, one server that polls them all."""

    polls = True

    def require(self) -> None:
        if platform.machine() not in ("x86_64", "i686"):
            raise UnavailableError(f"relies on x86's order of stores, this is {platform.machine()}")

    def ends(self, stack: ExitStack, clients: int, size: int) -> tuple[list[int], list[int]]:
        rings = []
        for _ in range(clients):
            fd = os.memfd_create("busy-ring", os.MFD_CLOEXEC)
            stack.callback(os.close, fd)
            os.ftruncate(fd, DATA + 2 * _room(size))
            rings.append(fd)
        return rings, rings

    def serve(self, address: Address, life: Life) -> None:
        answer, pause, ended = address.codec.answer, os.sched_yield, life.ended()
        rings = [_Ring(fd, address.size) for fd in address.fds]
        slots = [(at, ring.words, ring.requests, ring.answers) for at, ring in enumerate(rings)]
        done = [0] * len(rings)
        life.ready()
        idle = 0
        while True:
            for at, words, requests, answers in slots:
                number = words[REQUEST]
                if number == done[at]:
                    continue
                out = answer(requests[: words[REQUEST + 1]])
                answers[: len(out)] = out
                words[ANSWER + 1] = len(out)
                words[ANSWER] = done[at] = number
                idle = 0
            idle += 1
            if idle % PATIENCE == 0 and ended():
                return
            pause()

    @contextmanager
    def connect(self, address: Address) -> Iterator[Call]:
        (fd,) = address.fds
        ring = _Ring(fd, address.size)
        words, requests, answers = ring.words, ring.requests, ring.answers
        encode, decode, pause = address.codec.encode, address.codec.decode, os.sched_yield
        number = words[ANSWER]

        def call(content: Any) -> Any:
            nonlocal number
            number = number % NUMBERS + 1
            body = encode(content)
            requests[: len(body)] = body
            words[REQUEST + 1] = len(body)
            words[REQUEST] = number
            while words[ANSWER] != number:
                pause()
            return decode(answers[: words[ANSWER + 1]])

        yield call


class _Ring:
    """The memory of one ring, as views."""

    def __init__(self, fd: int, size: int) -> None:
        room = _room(size)
        view = memoryview(mmap.mmap(fd, DATA + 2 * room))
        self.words = view[:DATA].cast("I")
        self.requests = view[DATA : DATA + room]
        self.answers = view[DATA + room :]


def _room(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
