"""Flipping over the notify switch: nothing lost, whatever the load and however a side waits."""

from __future__ import annotations

import os

import pytest

from tests.notify.conftest import Pair
from tests.support import child

ECHO = """
    try:
        n = ep.recv_first()
        while True:
            n = ep.send_recv(n)
    except ClosedError:
        say(ep.stats.rescues, ep.stats.swaps)
"""

FLIPS = """
    ep.connect()
    for i in range({count}):
        ep.data[:8] = i.to_bytes(8, "little")
        assert ep.send_recv(8) == 8
        assert bytes(ep.data[:8]) == i.to_bytes(8, "little")
    say(ep.switch, ep.stats.rescues, ep.stats.swaps)
    ep.close()
"""


def test_a_hundred_thousand_flips_lose_no_wake(pair: Pair) -> None:
    """10^5 round trips, each carrying its number; no turn is found only by a slice running out."""
    client, server = pair(FLIPS.format(count=100_000), ECHO)
    switch, rescues, swaps = client.wait_line().split()
    assert switch == "notify"
    assert rescues == "0"
    assert int(swaps) > 90_000, "the hand-over is the trap"
    assert server.wait_line().split()[0] == "0"


@pytest.mark.timeout(120)
def test_flips_beside_busy_loops(pair: Pair) -> None:
    """With every CPU taken twice by other work, flips still arrive, and none by rescue."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        for _ in range(2 * (os.cpu_count() or 1)):
            stack.enter_context(child("say('busy')\nwhile True: pass")).expect("busy")
        client, server = pair(FLIPS.format(count=300), ECHO)
        assert client.wait_line().split()[:2] == ["notify", "0"]
        assert server.wait_line().split()[0] == "0"


@pytest.mark.parametrize("spinner", ["client", "server", "both"])
def test_a_side_that_spins(pair: Pair, spinner: str) -> None:
    """A side that spins does not trap, or is not on the listener: the other still wakes it."""
    spin = "from flipcall.lowlevel import WaitPolicy\nep._ep.policy.spin_ns = 200_000\n"
    # An answer that comes just as a slice ends counts as a rescue, too: so there is one slice, of an hour.
    slow = "ep._ep.slice_ns = 3_600_000_000_000\n"
    client = slow + (spin if spinner != "server" else "") + FLIPS.format(count=5000).replace("\n    ", "\n")
    server = slow + (spin if spinner != "client" else "") + ECHO.replace("\n    ", "\n")
    c, s = pair(client, server)
    assert c.wait_line().split()[:2] == ["notify", "0"]
    assert s.wait_line().split()[0] == "0"


def test_the_last_datagram_wakes_a_server_on_the_listener(pair: Pair) -> None:
    """send_last() does not sleep, so it cannot trap: it rings."""
    client, server = pair(
        """
        ep.connect()
        assert ep.send_recv(1) == 1
        hear()
        ep.send_last(3)
        say("sent")
        hear()
        """,
        """
        n = ep.recv_first()
        with within(0, 20):
            n = ep.send_recv(n)
        say("got", n, ep.stats.rescues)
        """,
    )
    from tests.notify.sides import sleeps_in
    from tests.support import wait_until

    wait_until(lambda: sleeps_in(server.pid, "poll"))
    client.tell("")
    client.expect("sent")
    server.expect("got 3 0")
    client.tell("")


def test_a_server_that_never_comes_back_to_its_listener(pair: Pair) -> None:
    """The server answers with send_last() and does something else: the client has its answer all the same."""
    client, server = pair(
        """
        ep.connect()
        with within(0, 5):
            assert ep.send_recv(1) == 7
        say("ok")
        """,
        """
        ep.recv_first()
        ep.send_last(7)
        hear()
        """,
    )
    client.expect("ok")
    server.tell("")
