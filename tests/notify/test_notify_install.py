"""The filter and its listener: who is covered, who is refused, and what happens to children.

A filter cannot be taken off, so every test is a child process.
"""

from __future__ import annotations

from tests.notify.conftest import Pair
from tests.support import run_python

# A seccomp filter for the calling thread alone, with or without a listener.
FILTER = """
from flipcall import syscalls
import ctypes
def own_filter(listener):
    assert syscalls._libc.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    program = (syscalls._SockFilter * 1)(syscalls._SockFilter(6, 0, 0, syscalls.SECCOMP_RET_ALLOW))
    return syscalls._call("seccomp", 1, 8 if listener else 0, syscalls._SockFprog(1, program))
"""


# A thread with such a filter, started before the endpoint is made, that runs what it is given.
STRANGER = """
import queue, threading
stranger = queue.Queue(), queue.Queue()
ready = threading.Event()
def run():
    own_filter(False)
    ready.set()
    stranger[1].put(stranger[0].get()())
threading.Thread(target=run, daemon=True).start()
ready.wait()
"""


def said(code: str) -> str:
    """What the program prints; AssertionError with its stderr when it fails."""
    done = run_python(FILTER + code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_thread_with_a_listener_is_refused() -> None:
    """EBUSY, which the kernel says to a thread that has a listener, is told in words."""
    text = said("""
from flipcall.notify import NotifyLink
from flipcall.errors import UnsupportedError
own_filter(True)
try:
    NotifyLink.make()
except UnsupportedError as e:
    say(e)
""")
    assert "listener already" in text
    assert "EBUSY" in text


def test_other_filters_do_not_matter() -> None:
    """A filter that was there before, and one that comes later, leave the switch working."""
    assert (
        said("""
from flipcall._core import lib
own_filter(False)
assert lib.fc_notify_install() >= 0
own_filter(False)
assert lib.fc_notify_install() >= 0
say("both")
""")
        == "both"
    )


def test_a_filter_that_forbids_the_trapped_call_is_told() -> None:
    """Where another filter answers the trapped call, the switch says so, and does not wait."""
    text = said("""
from flipcall.notify import NotifyLink
from flipcall.errors import UnsupportedError
import platform
number = {"x86_64": 110, "aarch64": 173}[platform.machine()]
assert syscalls._libc.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
S = syscalls._SockFilter
refuse, allow = S(6, 0, 0, 0x50001), S(6, 0, 0, syscalls.SECCOMP_RET_ALLOW)
program = (S * 4)(S(0x20, 0, 0, 0), S(0x15, 0, 1, number), refuse, allow)
syscalls._call("seccomp", 1, 0, syscalls._SockFprog(4, program))
for _ in range(2):
    try:
        NotifyLink.make()
    except UnsupportedError as e:
        say(e)
""")
    assert text.count("another seccomp filter answers") == 2


def test_threads_that_ran_before_are_covered() -> None:
    """The filter is put on every thread there is, those started before and after."""
    assert (
        said("""
import threading
from flipcall._core import lib, ffi
go, seen = threading.Event(), []
def look():
    go.wait()
    seen.append(open(f"/proc/thread-self/status").read().split("Seccomp:")[1].split()[0])
before = threading.Thread(target=look); before.start()
assert lib.fc_notify_install() >= 0
after = threading.Thread(target=look); after.start()
go.set(); before.join(); after.join()
say(*seen)
""")
        == "2 2"
    )


def test_a_thread_without_the_filter_parks_by_futex(pair: Pair) -> None:
    """Where a thread has a filter of its own, TSYNC fails: that thread flips by futex, the others trap."""
    client, _ = pair(
        """
        ep.connect()
        def flips():
            for _ in range(100):
                ep.send_recv(1)
        flips()
        job, done = stranger
        job.put(flips)
        assert done.get() is None
        flips()
        say(ep.stats.rescues, ep.stats.flips)
        """,
        """
        try:
            n = ep.recv_first()
            while True:
                n = ep.send_recv(n)
        except ClosedError:
            pass
        """,
        FILTER + STRANGER,
    )
    assert client.wait_line().split() == ["0", "301"]


def test_a_forked_child(pair: Pair) -> None:
    """A child inherits the filter, not the channel: ForkedError, EBUSY, and the parent undisturbed."""
    client, _ = pair(
        """
        ep.connect()
        ep.send_recv(1)
        pid = os.fork()
        if pid == 0:
            try:
                ep.send_recv(1)
            except ForkedError:
                pass
            else:
                os._exit(1)
            try:
                NotifyLink.make()
            except UnsupportedError as e:
                os._exit(0 if "EBUSY" in str(e) else 2)
            os._exit(3)
        for _ in range(200):
            ep.send_recv(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert os.system("exit 7") >> 8 == 7   # a program started from here lives under the filter, too
        say(ep.stats.rescues)
        """,
        """
        try:
            n = ep.recv_first()
            while True:
                n = ep.send_recv(n)
        except ClosedError:
            pass
        """,
    )
    client.expect("0")


def test_death_is_noticed_though_a_child_lives_on(pair: Pair) -> None:
    """A child of the client holds neither bell nor listener: the server notices the client's end all the same."""
    client, server = pair(
        """
        ep.connect()
        ep.send_recv(1)
        pid = os.fork()
        if pid == 0:
            sys.stdout.flush()
            os.close(1)
            hear()
            os._exit(0)
        say("up")
        hear()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        """
        n = ep.recv_first()
        try:
            ep.send_recv(n)
        except Exception as e:
            say(type(e).__name__)
        """,
    )
    client.expect("up")
    client.process.kill()
    server.expect("PeerDiedError")


def test_one_server_at_a_time() -> None:
    """The listener can serve one process; a link to another is refused until the first is closed."""
    text = said("""
from flipcall.notify import NotifyLink
from flipcall.errors import UnsupportedError
first = NotifyLink.make(1)
again = NotifyLink.make(1)
try:
    NotifyLink.make(2)
except UnsupportedError as e:
    say(e)
first.close(); again.close()
NotifyLink.make(2).close()
say("then")
""")
    assert "serves process 1 now" in text
    assert text.endswith("then")


def test_without_a_link_the_switch_is_refused() -> None:
    """switch="notify" on a raw endpoint needs its NotifyLink, and says so; by default it is never chosen."""
    text = said("""
from flipcall.lowlevel import *
from flipcall.errors import MisuseError
from flipcall.switch import offered
try:
    Endpoint(MemfdAllocator().allocate(4096), Side.CLIENT, switch="notify")
except MisuseError as e:
    say(e)
assert "notify" not in offered(None)
""")
    assert "needs notify=" in text


def test_descriptors_of_another_kind_are_refused() -> None:
    """A server takes a seccomp listener and a SOCK_SEQPACKET socket, and closes whatever else it is sent."""
    assert (
        said("""
import os, socket
from flipcall.notify import NotifyLink
from flipcall.errors import ProtocolError
before = len(os.listdir("/proc/self/fd"))
def pipe():
    r, w = os.pipe(); os.close(w); return r
def stream():
    a, b = socket.socketpair(); b.close(); return a.detach()
def bell():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET); b.close(); return a.detach()
for fds in ([pipe(), bell()], [pipe(), pipe()], [os.open("/dev/null", 0), stream()]):
    try:
        NotifyLink.adopt(fds, b"x" * 16)
        say("taken")
    except ProtocolError:
        pass
say(len(os.listdir("/proc/self/fd")) - before)
""")
        == "0"
    )
