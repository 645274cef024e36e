"""What the client's process receives from its own listener: what it must, and not at the server's expense."""

from __future__ import annotations

from pathlib import Path

from tests.notify.conftest import Pair
from tests.notify.test_notify_hostile import IOCTL
from tests.support import run_python, wait_until

# The client gives up a call whose trap the server has seen and not received: its process takes the notification.
CALL = """
    ep.connect()
    hear()
    try:
        ep.send_recv(1, deadline_ns=time.monotonic_ns() + 20_000_000)
    except DeadlineExceeded:
        say("given up")
    hear()
"""

# A server between poll() and RECV, until it is told to go on.
SERVER = (
    IOCTL
    + """
    import select
    from flipcall._core import lib
    ep.accept()
    fd = link._listener.fd
    word = memoryview(ep._window.buffer).cast("I")
    word[2] |= lib.FC_SLEEPS_SERVER | lib.FC_NOTIFY_SERVER
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    say("on the listener")
    assert poll.poll(5000)
    say("woken")
    hear()
    id = receive(fd)
    say("received")
"""
)


def _trapped(pid: int) -> bool:
    """Whether any thread of the process is in its trapped call."""
    numbers = ("110 ", "173 ")  # getppid: x86-64, aarch64
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return any((task / "syscall").read_text().startswith(numbers) for task in tasks)


def test_a_server_is_not_left_in_receive(pair: Pair) -> None:
    """What woke it was received by the client's process at the deadline; it receives a poke in its place."""
    client, server = pair(CALL, SERVER + "    answer(fd, id)\n")
    server.expect("on the listener")
    client.tell("")
    server.expect("woken")
    client.expect("given up")
    server.tell("")
    server.expect("received")
    assert server.wait() == 0
    wait_until(lambda: not _trapped(client.pid))
    client.tell("")


def test_a_poke_whose_receiver_dies(pair: Pair) -> None:
    """The thread that pokes is answered by its own process when the server dies with the poke in its hands."""
    client, server = pair(CALL, SERVER + "    hear()\n")
    server.expect("on the listener")
    client.tell("")
    server.expect("woken")
    client.expect("given up")
    server.tell("")
    server.expect("received")
    assert _trapped(client.pid)
    server.kill()
    wait_until(lambda: not _trapped(client.pid))
    client.tell("")


def _trap_at_once(rounds: int) -> None:
    import fcntl
    import os
    import signal
    import sys
    import threading

    from flipcall._core import lib
    from flipcall.notify import NotifyLink

    for _ in range(rounds):
        pid = os.fork()
        if pid == 0:
            signal.alarm(2)  # what is stolen never comes
            listener, _bell = NotifyLink.make().descriptors()
            thread = threading.Thread(target=lib.fc_notify_trap, args=(1,))
            thread.start()
            note = bytearray(80)
            fcntl.ioctl(listener, 0xC0502100, note)
            fcntl.ioctl(listener, 0xC0182101, note[:8] + bytes(16))
            thread.join()
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            sys.exit("a trap was answered by the process that made it")


def test_the_first_trap_is_the_servers() -> None:
    """Nothing is received any more by who has measured how notifications are numbered."""
    done = run_python(_trap_at_once, 20)
    assert done.returncode == 0, done.stderr
