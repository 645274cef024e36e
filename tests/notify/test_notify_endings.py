"""Whatever ends a wait, at each moment and on each side: deadline, shutdown, death, Ctrl-C, SIGSTOP.

Moments: TRAPPED, the client sleeps in its trap and the server's handler runs; LISTENING, the server sleeps on the
listener and the client is active. What is left of each process must come out by itself, with the right error.
"""

from __future__ import annotations

import signal

import pytest

from tests.notify.conftest import Pair
from tests.notify.sides import sleeps_in
from tests.support import Child, process_state, resume, stop, wait_until

# The client says what its call came to, and how long it was; the server's handler lasts until it is told to go on.
CALLER = """
    ep.connect()
    assert ep.send_recv(1) == 1
    say("ready")
    hear()
    start = time.monotonic()
    try:
        n = ep.send_recv(2{deadline})
        say("answer", n)
    except BaseException as e:
        say(type(e).__name__, round(time.monotonic() - start, 2))
    hear()
"""
HANDLER = """
    try:
        n = ep.send_recv(ep.recv_first())
        say("serving")
        hear()
        n = ep.send_recv(n)
        say("next", n)
    except Exception as e:
        say(type(e).__name__)
    hear()
"""


def deadline(seconds: float) -> str:
    """The argument for CALLER."""
    return f", deadline_ns=time.monotonic_ns() + {int(seconds * 1e9)}"


def trapped(pair: Pair, caller: str = CALLER, handler: str = HANDLER, limit: str = "") -> tuple[Child, Child]:
    """Both sides at the moment TRAPPED."""
    client, server = pair(caller.format(deadline=limit), handler)
    client.expect("ready")
    wait_until(lambda: sleeps_in(server.pid, "poll"), what="the server sleeps on the listener")
    client.tell("")
    server.expect("serving")
    return client, server


def listening(pair: Pair, handler: str = HANDLER) -> tuple[Child, Child]:
    """Both sides at the moment LISTENING."""
    client, server = pair(CALLER.format(deadline=""), handler)
    client.expect("ready")
    wait_until(lambda: sleeps_in(server.pid, "poll"), what="the server sleeps on the listener")
    return client, server


@pytest.mark.parametrize("seconds", [0.005, 0.03, 0.3])
def test_deadline_trapped(pair: Pair, seconds: float) -> None:
    """The deadline fires in time, in the first slice and after it, though the server holds the notification."""
    client, _ = trapped(pair, limit=deadline(seconds))
    name, took = client.wait_line().split()
    assert name == "DeadlineExceeded"
    assert seconds - 0.01 <= float(took) < seconds + 2


def test_deadline_then_the_answer(pair: Pair) -> None:
    """After the deadline the answer can still be waited for."""
    client, server = trapped(
        pair,
        CALLER.replace("    hear()\n", "").replace('    say("ready")\n', '    say("ready")\n    hear()\n')
        + """
    say("again")
    say("answer", ep.recv())
    hear()
    """,
        limit=deadline(0.02),
    )
    assert client.wait_line().startswith("DeadlineExceeded")
    client.expect("again")
    server.tell("")
    client.expect("answer 2")


def test_deadline_trapped_and_server_stopped(pair: Pair) -> None:
    """A server stopped in its poll() receives nothing: the client's watch receives in its place."""
    client, server = pair(CALLER.format(deadline=deadline(0.2)), HANDLER)
    client.expect("ready")
    wait_until(lambda: sleeps_in(server.pid, "poll"))
    stop(server.pid)
    client.tell("")
    name, took = client.wait_line().split()
    assert (name, float(took) < 2) == ("DeadlineExceeded", True)
    resume(server.pid)
    server.expect("serving")


def test_shutdown_trapped_local(pair: Pair) -> None:
    """shutdown() from another thread ends the client's trap."""
    caller = CALLER.replace(
        "    hear()\n    start", "    hear()\n    threading.Timer(0.02, ep.shutdown).start()\n    start"
    )
    client, server = trapped(pair, caller)
    assert client.wait_line().startswith("ClosedError")
    server.tell("")
    server.expect("ClosedError")


def test_shutdown_trapped_remote(pair: Pair) -> None:
    """The server shuts down instead of answering."""
    client, _ = trapped(
        pair, handler=HANDLER.replace("    hear()\n        n = ep", "    ep.shutdown()\n        n = ep", 1)
    )
    assert client.wait_line().startswith("ClosedError")


def test_shutdown_listening_local(pair: Pair) -> None:
    """shutdown() from another thread ends the server's poll()."""
    handler = HANDLER.replace(
        "    try:\n", "    threading.Thread(target=lambda: (hear(), ep.shutdown())).start()\n    try:\n", 1
    )
    client, server = listening(pair, handler)
    server.tell("")
    server.expect("ClosedError")
    client.tell("")
    assert client.wait_line().startswith("ClosedError")


def test_shutdown_listening_remote(pair: Pair) -> None:
    """The client shuts down while the server sleeps on the listener."""
    client, server = pair(
        'ep.connect()\nep.send_recv(1)\nsay("ready")\nhear()\nep.shutdown()\nhear()', HANDLER
    )
    client.expect("ready")
    wait_until(lambda: sleeps_in(server.pid, "poll"))
    client.tell("")
    server.expect("ClosedError")


def test_death_of_the_server_trapped(pair: Pair) -> None:
    """kill -9 of the server while it holds the notification: the client's watch sees the bell hang up."""
    client, server = trapped(pair)
    wait_until(lambda: sleeps_in(client.pid, "trap", "futex"))
    server.kill()
    name, _ = client.wait_line().split()
    assert name == "PeerDiedError"


def test_death_of_the_server_listening(pair: Pair) -> None:
    """kill -9 of the server asleep on the listener: the next call says so at once."""
    client, server = listening(pair)
    server.kill()
    client.tell("")
    name, took = client.wait_line().split()
    assert (name, float(took) < 2) == ("PeerDiedError", True)


def test_death_of_the_client_trapped(pair: Pair) -> None:
    """kill -9 of the client in its trap: the notification is void, and the server's next wait ends."""
    client, server = trapped(pair)
    client.kill()
    server.tell("")
    server.expect("PeerDiedError")


def test_death_of_the_client_listening(pair: Pair) -> None:
    """kill -9 of the active client: listener and bell hang up in the server's poll()."""
    client, server = listening(pair)
    client.kill()
    server.expect("PeerDiedError")


def test_ctrl_c_trapped(pair: Pair) -> None:
    """SIGINT ends the trap and raises KeyboardInterrupt, while the server holds the notification."""
    client, server = trapped(pair)
    wait_until(lambda: sleeps_in(client.pid, "trap", "futex"))
    client.signal(signal.SIGINT)
    name, took = client.wait_line().split()
    assert (name, float(took) < 5) == ("KeyboardInterrupt", True)
    server.tell("")


def test_stopped_and_continued_trapped(pair: Pair) -> None:
    """SIGSTOP and SIGCONT begin the trap anew, with another number: the old answer is void, the new one comes."""
    client, server = trapped(pair)
    for _ in range(5):
        wait_until(lambda: process_state(client.pid) == "S")
        stop(client.pid)
        resume(client.pid)
    server.tell("")
    client.expect("answer 2")


def test_stopped_trapped_while_the_answer_comes(pair: Pair) -> None:
    """The server answers a stopped client; it has its answer when it is continued."""
    client, server = trapped(pair)
    stop(client.pid)
    server.tell("")
    wait_until(lambda: sleeps_in(server.pid, "poll"))
    resume(client.pid)
    client.expect("answer 2")


def test_deadline_after_many_restarts(pair: Pair) -> None:
    """Each restart takes a number that this process does not count: the watch still finds its own."""
    client, _ = trapped(pair, limit=deadline(1.0))
    for _ in range(100):
        stop(client.pid)
        resume(client.pid)
    name, took = client.wait_line().split()
    assert (name, float(took) < 4) == ("DeadlineExceeded", True)


def test_a_long_call(pair: Pair) -> None:
    """A call of many slices is answered, and the rest of its wait is not spent in the trap."""
    client, server = trapped(pair)
    wait_until(lambda: sleeps_in(client.pid, "futex"), what="the client has gone over to the futex")
    server.tell("")
    client.expect("answer 2")
