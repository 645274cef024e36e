"""Ctrl-C, with a real SIGINT to a process that waits: verb x moment."""

from __future__ import annotations

import signal

import pytest

from tests.endpoint.running import WAITS
from tests.support import child, is_gone, process_state, wait_until


def waiter(verb: str, spin: bool) -> None:
    """Waits in `verb`; says what came of it, then whether the endpoint is as usable as documented."""
    import threading

    from flipcall.lowlevel import State, WaitPolicy
    from flipcall.testing import pair
    from tests.endpoint.running import until_waiting

    policy = WaitPolicy(spin_ns=10**12, adaptive=False) if spin else WaitPolicy.frugal()
    both = pair(policy=policy, connected=verb in ("send_recv", "recv"))
    mine, other = (both.server, both.client) if verb.startswith("recv") else (both.client, both.server)
    watch = threading.Thread(
        target=lambda: (until_waiting(mine, "spinning" if spin else "parked"), say("waits"))
    )
    try:
        watch.start()
        getattr(mine, verb)(*([1] if verb == "send_recv" else []))
    except KeyboardInterrupt:
        say("KeyboardInterrupt", mine.state.name)
    watch.join()
    if mine.state is State.WAITING:  # the wait can be gone on with
        if verb == "send_recv":
            other.recv()
        other.send_last(4)
        say(mine.recv())
    both.close()
    say("closed")


def say(*_words: object) -> None:
    """In the child: tests.support has another one there."""


@pytest.mark.parametrize("verb", WAITS)
@pytest.mark.parametrize("spin", [False, True], ids=["parked", "spinning"])
def test_sigint_during_wait(verb: str, spin: bool) -> None:
    """SIGINT ends the wait with KeyboardInterrupt; while connecting that is the end, later recv() goes on."""
    with child(waiter, verb, spin) as process:
        process.expect("waits")
        process.signal(signal.SIGINT)
        if verb in ("send_recv", "recv"):
            process.expect("KeyboardInterrupt WAITING")
            process.expect("4")
        else:
            process.expect("KeyboardInterrupt OVER")
        process.expect("closed")
        assert process.wait() == 0


def handler_uses_it(what: str) -> None:
    """A signal handler that ends the endpoint its own thread is waiting in."""
    import signal

    from flipcall.errors import ClosedError
    from flipcall.testing import pair

    both = pair()
    signal.signal(signal.SIGUSR1, lambda *_: getattr(both.server, what)())
    say("waits")
    try:
        both.server.recv()
    except ClosedError:
        say("ClosedError")
    both.close()


@pytest.mark.parametrize("what", ["shutdown", "close"])
def test_signal_handler_ends_the_wait(what: str) -> None:
    """shutdown() and close() from a signal handler of the waiting thread itself end its wait."""
    with child(handler_uses_it, what) as process:
        process.expect("waits")
        wait_until(lambda: process_state(process.pid) == "S", what="it sleeps")
        process.signal(signal.SIGUSR1)
        process.expect("ClosedError")
        assert process.wait() == 0
        assert is_gone(process.pid)
