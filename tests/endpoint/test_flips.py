"""Many flips between two processes, with policies and pauses at random: no wake is lost."""

from __future__ import annotations

import random
import time

import pytest

from flipcall.lowlevel import Endpoint, Liveness, MemfdAllocator, Side, WaitPolicy
from flipcall.testing import read_word
from tests.support import SLOW, child

ROUNDS, FLIPS = 20, 5000 // SLOW  # 10**5
LONG_SLICE_NS = (
    10**10
)  # a lost wake hangs for ten seconds then, and no answer falls on the end of a slice by chance


def policies(seed: int) -> list[WaitPolicy]:
    """The policies of a side, round by round."""
    choice = random.Random(seed)
    presets = [WaitPolicy.frugal(), WaitPolicy.balanced(), WaitPolicy.latency()]
    odd = [WaitPolicy(spin_ns=choice.randrange(1, 30_000), adaptive=choice.random() < 0.5) for _ in range(3)]
    return [choice.choice(presets + odd) for _ in range(ROUNDS)]


def idle(choice: random.Random) -> None:
    """Let the other side get to a random point of its ladder."""
    if choice.random() < 0.1:
        end = time.perf_counter_ns() + choice.randrange(60_000)
        while time.perf_counter_ns() < end:
            pass


def serve(fd: int) -> None:
    """The other process: one endpoint a round on the same file, echoing."""
    import os
    import random

    from flipcall.lowlevel import Endpoint, Liveness, PacketWindow, Side
    from tests.endpoint.test_flips import FLIPS, LONG_SLICE_NS, ROUNDS, idle, policies

    choice = random.Random(4)
    for i, policy in enumerate(policies(3)):
        window = PacketWindow.attach(os.dup(fd), 4096, i * 4096)
        with Endpoint(window, Side.SERVER, policy=policy, peer=Liveness(os.getppid())) as end:
            end.core()[0].slice_ns = LONG_SLICE_NS
            say("ready")
            n = end.recv_first()
            for _ in range(FLIPS - 1):
                idle(choice)
                n = end.send_recv(n)
            end.send_last(n)
            say(end.stats.rescues)
    assert i + 1 == ROUNDS


def say(*_words: object) -> None:
    """In the child: tests.support has another one there."""


@pytest.mark.timeout(60 * SLOW)
def test_no_wake_is_lost() -> None:
    """10**5 round trips, every mixture of spinning and sleeping: all answered, none of them by a slice's end."""
    import os

    from flipcall.lowlevel import PacketWindow

    choice = random.Random(2)
    with (
        MemfdAllocator().allocate(ROUNDS * 4096) as memory,
        child(serve, memory.fd, pass_fds=[memory.fd]) as other,
    ):
        for i, policy in enumerate(policies(1)):
            other.expect("ready")
            window = PacketWindow.attach(os.dup(memory.fd), 4096, i * 4096)
            with Endpoint(window, Side.CLIENT, policy=policy, peer=Liveness(other.pid)) as end:
                end.core()[0].slice_ns = LONG_SLICE_NS
                end.connect()
                for k in range(FLIPS):
                    n = k % 4081
                    assert end.send_recv(n) == n
                    idle(choice)
                stats = end.stats
                assert stats.flips == FLIPS + 1
                assert stats.wakes + stats.wakes_skipped + stats.swaps == stats.flips
                assert stats.rescues == 0
                assert read_word(window, "sleepers") & 3 == 0
                other.expect("0")
        assert other.wait() == 0
