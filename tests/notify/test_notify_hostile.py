"""A peer that does what it likes with the listener: it can make a call fail, and nothing else."""

from __future__ import annotations

import pytest

from tests.notify.conftest import Pair
from tests.notify.sides import sleeps_in
from tests.support import wait_until

IOCTL = """
    import ctypes, fcntl, struct
    RECV, SEND = 0xC0502100, 0xC0182101   # SECCOMP_IOCTL_NOTIF_RECV, _SEND
    def receive(fd):
        buffer = bytearray(80)
        fcntl.ioctl(fd, RECV, buffer)
        return struct.unpack_from("=Q", buffer)[0]
    def answer(fd, id, flags=0):
        try:
            fcntl.ioctl(fd, SEND, struct.pack("=QqiI", id, 0, 0, flags))
        except OSError as e:
            return e.errno
"""

CALL = """
    ep.connect()
    start = time.monotonic()
    try:
        say("answer", ep.send_recv(1, deadline_ns=time.monotonic_ns() + 300_000_000))
    except Exception as e:
        took = time.monotonic() - start
        assert took < 3, took
        say(type(e).__name__)
"""


@pytest.mark.parametrize(
    "habit",
    [
        "receive(fd)",
        "id = receive(fd); answer(fd, id)",
        "id = receive(fd); answer(fd, id); assert answer(fd, id) in (errno.ENOENT, errno.EINPROGRESS)",
        "id = receive(fd); answer(fd, id, 1)",
        "threading.Thread(target=receive, args=(fd,), daemon=True).start(); time.sleep(0.001)",
    ],
    ids=[
        "never-answers",
        "answers-and-never-gives",
        "answers-twice",
        "continues-the-call",
        "receives-in-crowds",
    ],
)
def test_a_server_that_never_gives(pair: Pair, habit: str) -> None:
    """Whatever the server does with the notifications, the client's deadline fires in time."""
    client, server = pair(
        CALL,
        IOCTL
        + f"""
    ep.accept()
    fd = link._listener.fd
    from flipcall._core import lib
    word = memoryview(ep._window.buffer).cast("I")
    word[2] |= lib.FC_SLEEPS_SERVER | lib.FC_NOTIFY_SERVER   # "I sleep on the listener"
    say("lying")
    while True:
        {habit}
    """,
    )
    server.expect("lying")
    client.expect("DeadlineExceeded")


def test_a_server_that_hangs_up_and_lives(pair: Pair) -> None:
    """The server closes its end of the bell without a word: for the client it is gone."""
    client, server = pair(CALL, "ep.recv_first()\nlink._bell.close()\nhear()")
    client.expect("PeerDiedError")
    server.tell("")


SERVER = """
    n = ep.recv_first()
    say("serving")
    stopper = threading.Thread(target=lambda: (hear(), ep.shutdown()))
    stopper.start()
    try:
        with within(0, 30):
            while True:
                n = ep.send_recv(n)
    except Exception as e:
        say(type(e).__name__)
"""


def test_a_client_that_says_it_traps_and_never_does(pair: Pair) -> None:
    """The server is neither held by such a client, nor kept from shutting down."""
    client, server = pair(
        """
    from flipcall._core import lib
    ep.connect()
    word = memoryview(ep._window.buffer).cast("I")
    word[2] |= lib.FC_SLEEPS_CLIENT | lib.FC_NOTIFY_CLIENT   # "I am in a trap"
    for i in range(50):
        word[0] = lib.FC_SERVER_ACTIVE
        link._bell.send(b"x")
        while word[0] != lib.FC_CLIENT_ACTIVE:
            time.sleep(0)
    say("answered")
    hear()
    """,
        SERVER,
    )
    server.expect("serving")
    client.expect("answered")
    wait_until(lambda: sleeps_in(server.pid, "poll"))
    server.tell("")
    server.expect("ClosedError")


FLOOD = """
    from flipcall._core import lib, ffi
    import random
    ep.connect()
    stopped = False
    def flood(seed):
        r = random.Random(seed)
        for i in range(3000):
            lib.fc_notify_trap(r.choice([0, 1, 2, 7, 2**31, 2**32 - 1, link.index + 1]))
    threads = [threading.Thread(target=flood, args=(i,)) for i in range(3)]
    for t in threads: t.start()
    for i in range(200):
        assert ep.send_recv(1) == 1
    for t in threads: t.join()
    say("flooded")
    hear()
"""


def test_a_client_that_traps_garbage(pair: Pair) -> None:
    """Traps with indexes of no channel are answered, one by one, beside calls that go on."""
    client, server = pair(FLOOD, SERVER)
    server.expect("serving")
    client.expect("flooded")
    server.tell("")
    server.expect("ClosedError")


def test_shutdown_during_a_flood(pair: Pair) -> None:
    """A client that never stops trapping does not keep the server from shutting down."""
    _, server = pair(FLOOD.replace("range(3000)", "range(10**9)"), SERVER)
    server.expect("serving")
    server.tell("")
    server.expect("ClosedError")


def test_a_client_that_receives_its_own_notifications(pair: Pair) -> None:
    """A notification received behind the server's back leaves it waiting, at the latest until that client ends."""
    client, server = pair(
        IOCTL
        + """
    ep.connect()
    from flipcall._core import lib
    fd = lib.fc_notify_install()
    def steal():
        while True:
            answer(fd, receive(fd))
    threading.Thread(target=steal, daemon=True).start()
    say("stealing")
    try:
        for _ in range(2000):
            ep.send_recv(1, deadline_ns=time.monotonic_ns() + 2_000_000_000)
    except Exception as e:
        pass
    say("enough")
    hear()
    """,
        SERVER,
    )
    client.expect("stealing")
    client.expect("enough")
    client.kill()
    while (line := server.wait_line()) == "serving":
        pass
    assert line in ("PeerDiedError", "ClosedError")
