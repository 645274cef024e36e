"""Calls over the notify switch: many channels and threads of one client on one listener."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Child, child, run_python

CONTRACT = """
import os, signal, sys, threading, time
import flipcall
from flipcall.lowlevel import WaitPolicy
FRUGAL = WaitPolicy.frugal()
class Adder(flipcall.Service):
    def add(self, a: int, b: int) -> int: ...
    def nap(self, seconds: float) -> int: ...
    def die(self) -> int: ...
"""

SERVER = (
    CONTRACT
    + """
class Server(Adder):
    def add(self, a, b): return a + b
    def nap(self, seconds):
        os.write(1, b"napping\\n")  # one write, for many threads do
        time.sleep(seconds)
        return 1
    def die(self): os.kill(os.getpid(), signal.SIGKILL)
server = flipcall.Server(Server(), sys.argv[1], policy=FRUGAL, switch=sys.argv[2] or None)
server.start()
say("up")
hear()
server.stop()
say("down")
"""
)

CLIENT = (
    CONTRACT + "adder = flipcall.connect(Adder, sys.argv[1], switch='notify', policy=FRUGAL, timeout=20.0)\n"
)
RESCUES = """
def rescues():
    return sum(c.endpoint.stats.rescues for c in adder._flipcall.pool.channels())
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Of the server's socket."""
    return str(tmp_path / "socket")


@pytest.fixture
def server(path: str) -> Iterator[Child]:
    """A server of Adder that takes whatever switch is asked for."""
    with child(SERVER, path, "") as c:
        c.expect("up")
        yield c


def client(path: str, code: str) -> str:
    """What the client prints; AssertionError with its stderr when it fails."""
    done = run_python(CLIENT + RESCUES + code, path, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("threads", [1, 2, 8, 24])
def test_threads_share_one_listener(server: Child, path: str, threads: int) -> None:
    """Calls from many threads, over up to eight channels, each get their own answer; no wake is lost."""
    code = f"""
wrong = []
def work(k):
    for i in range(4000 // {threads}):
        if adder.add(i, k) != i + k:
            wrong.append((i, k))
threads = [threading.Thread(target=work, args=(k,)) for k in range({threads})]
for t in threads: t.start()
for t in threads: t.join()
assert not wrong
for i in range(1000): assert adder.add(i, 1) == i + 1
say(rescues())
adder.close()
"""
    assert client(path, code) == "0"


def test_the_lead_follows_the_busy_channel(server: Child, path: str) -> None:
    """A channel that idles on the listener gives way: a later one that is busy comes to trap, too."""
    code = """
pool = adder._flipcall.pool
first = pool.take(None)              # the leader, idle from now on
for i in range(500): adder.add(i, i)
(second,) = [c for c in pool.channels() if c is not first]
from flipcall._core import lib
say(second.endpoint.stats.rescues, bool(lib))
word = memoryview(second.endpoint._window.buffer).cast("I")
deadline = time.monotonic() + 10     # the server is on its way to the listener
while not word[2] & lib.FC_NOTIFY_SERVER:
    assert time.monotonic() < deadline
pool.give(first)
adder.close()
"""
    assert client(path, code) == "0 True"


def test_a_deadline_and_the_next_call(server: Child, path: str) -> None:
    """A call that expires leaves its channel to its handler; others go on, and it comes back."""
    code = """
hurried = flipcall.with_options(adder, timeout=0.1)
for _ in range(3):
    start = time.monotonic()
    try:
        hurried.nap(0.3)
        say("answered")
    except flipcall.DeadlineExceeded:
        assert time.monotonic() - start < 5
    assert adder.add(1, 2) == 3
say("ok")
adder.close()
"""
    assert client(path, code) == "ok"


def test_death_of_the_server_ends_every_call(server: Child, path: str) -> None:
    """kill -9 of the server while several threads are in calls: each says so."""
    code = """
ends = []
def work():
    try:
        adder.nap(30.0)
    except Exception as e:
        ends.append(type(e).__name__)
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
say(*sorted(ends))
"""
    with child(CLIENT + code, path) as c:
        for _ in range(4):
            server.expect("napping")
        server.kill()
        c.expect(" ".join(["PeerDiedError"] * 4))


def test_a_server_started_anew(path: str) -> None:
    """The listener outlives the server: the same client process connects to the next one, with the switch."""
    code = """
say("first")
hear()
try:
    adder.add(1, 1)
except flipcall.PeerDiedError:
    pass
adder.close()
again = flipcall.connect(Adder, sys.argv[1], switch="notify", policy=FRUGAL)
for i in range(100): assert again.add(i, 1) == i + 1
say([c.endpoint.switch for c in again._flipcall.pool.channels()])
again.close()
"""
    with child(SERVER, path, "") as first:
        first.expect("up")
        with child(CLIENT + code, path) as c:
            c.expect("first")
            first.kill()
            with child(SERVER, path, "") as second:
                second.expect("up")
                c.tell("")
                c.expect("['notify']")


def test_a_server_of_another_switch_refuses(path: str) -> None:
    """A server told to use the futex alone refuses a client that asks for notify, in words."""
    with child(SERVER, path, "futex") as c:
        c.expect("up")
        code = (
            CLIENT.replace("adder =", "try:\n    adder =") + "except flipcall.CallError as e:\n    say(e)\n"
        )
        done = run_python(code, path)
        assert "no switch in common" in done.stdout, done.stderr


def test_a_server_of_notify_refuses_others(path: str) -> None:
    """And the other way round: Server(switch="notify") takes nothing else."""
    with child(SERVER, path, "notify") as c:
        c.expect("up")
        code = CLIENT.replace("switch='notify', ", "").replace("adder =", "try:\n    adder =")
        done = run_python(code + "except flipcall.CallError as e:\n    say(e)\n", path)
        assert "no switch in common" in done.stdout, done.stderr


def test_stop_with_a_client_that_steals(server: Child, path: str) -> None:
    """One client receives its own notifications; the server serves others, and stops in time."""
    thief = """
import fcntl
from flipcall._core import lib
fd = lib.fc_notify_install()
def steal():
    while True:
        fcntl.ioctl(fd, 0xC0502100, bytearray(80))
threading.Thread(target=steal, daemon=True).start()
hurried = flipcall.with_options(adder, timeout=0.05)
for _ in range(50):
    try:
        hurried.add(1, 1)
    except flipcall.FlipcallError:
        pass
say("stolen")
hear()
"""
    with child(CLIENT + thief, path) as c:
        c.expect("stolen")
        assert client(path, "say(adder.add(2, 3))\nadder.close()") == "5"
        server.tell("")
        server.expect("down")
