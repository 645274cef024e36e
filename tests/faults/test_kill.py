"""SIGKILL and SIGSTOP at every moment: the other side is told in time, and everybody else is served on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

import flipcall
from tests.faults.programs import Site, SiteServer, serving_until_signalled
from tests.support import Child, child, process_state, stop, wait_until

SOON = 1.0  # seconds; 100 ms is promised, and the margin is for a loaded machine
POLICIES = ["latency", "balanced", "frugal"]


@pytest.mark.parametrize("policy", POLICIES)
def test_kill_server_while_idle(server: Child, connect: Callable[..., Site], policy: str) -> None:
    """A call to a server that was killed while nothing was asked of it names its process."""
    site = connect(Site, policy=getattr(flipcall.WaitPolicy, policy)())
    assert site.add(1, 2) == 3
    server.kill()
    begun = time.monotonic()
    with pytest.raises(flipcall.PeerDiedError) as info:
        site.add(1, 2)
    assert time.monotonic() - begun < SOON
    assert info.value.pid == server.pid


@pytest.mark.parametrize("policy", POLICIES)
def test_kill_server_while_the_handler_runs(server: Child, connect: Callable[..., Site], policy: str) -> None:
    """A call under way, its caller spinning or parked, ends soon after the death of the server."""
    site = connect(Site, policy=getattr(flipcall.WaitPolicy, policy)())
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(site.wait, "call")
        server.expect("began call")
        killed = time.monotonic()
        server.kill()
        error = call.exception(20)
        assert time.monotonic() - killed < SOON
    assert isinstance(error, flipcall.PeerDiedError)
    assert error.pid == server.pid


def test_kill_server_while_an_argument_is_filled(server: Child, connect: Callable[..., Site]) -> None:
    """What the fill writes to is there all the same; the call says that the server has died."""
    site = connect(Site)

    def fill(place: memoryview) -> None:
        server.kill()
        place[:] = b"1" * len(place)
        assert bytes(place) == b"1" * len(place)

    for size in (5000, 500_000):
        with pytest.raises((flipcall.PeerDiedError, ConnectionRefusedError)):
            site.size(flipcall.filled(size, fill))


def test_server_kills_itself_in_the_handler(server: Child, connect: Callable[..., Site]) -> None:
    """Isolating code that crashes: the caller is told, and lives."""
    site = connect(Site)
    with pytest.raises(flipcall.PeerDiedError) as info:
        site.die()
    assert info.value.pid == server.pid


def test_kill_server_during_calls(path: str, transport: str, stack: ExitStack) -> None:
    """Killed at any instruction of a busy exchange: an error in time, never a wrong answer, never a hang."""
    from tests.faults.programs import serving

    for n in range(8):
        with child(serving, f"{path}{n}") as server:
            server.expect("listens")
            with flipcall.connect(Site, f"{path}{n}", transport=transport) as site:  # type: ignore[arg-type]
                assert site.add(0, 0) == 0
                killer = threading.Timer(0.002 * (n + 1), server.process.kill)
                killer.start()
                begun = time.monotonic()
                with pytest.raises(flipcall.PeerDiedError) as info:
                    _call_for_ever(site)
                assert time.monotonic() - begun < SOON + 5
                assert info.value.pid == server.pid
                killer.join()


def _call_for_ever(site: Site) -> None:
    i = 0
    while True:
        assert site.add(i, 1) == i + 1
        i += 1


@pytest.mark.parametrize("before", ["accept", "welcome"])
def test_kill_server_during_the_handshake(path: str, transport: Any, before: str) -> None:
    """A server that dies before it has answered is named to the client that waits for it."""

    def half(path: str, before: str) -> None:
        import socket

        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        say("listens")  # type: ignore[name-defined]  # noqa: F821
        connection, _ = listener.accept()
        if before == "welcome":
            connection.recv(4)
        say("taken")  # type: ignore[name-defined]  # noqa: F821
        hear()  # type: ignore[name-defined]  # noqa: F821

    with child(half, path, before) as server, ThreadPoolExecutor(1) as threads:
        server.expect("listens")
        connecting = threads.submit(flipcall.connect, Site, path, transport=transport)
        server.expect("taken")
        killed = time.monotonic()
        server.kill()
        error = connecting.exception(20)
        assert time.monotonic() - killed < SOON
        assert isinstance(error, flipcall.PeerDiedError)
        assert error.pid == server.pid


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("moment", ["idle", "calling"])
def test_kill_client(
    serve: Callable[..., flipcall.Server],
    caller: Callable[..., Child],
    connect: Callable[..., Site],
    capfd: pytest.CaptureFixture[str],
    policy: str,
    moment: str,
) -> None:
    """A client killed while idle, or while a handler works for it, is noticed; others are served on."""
    began, cancelled = threading.Event(), threading.Event()

    class Server(SiteServer):
        def wait(self, mark: str) -> None:
            began.set()
            context = flipcall.context()
            wait_until(lambda: context.cancelled)
            cancelled.set()

    server = serve(Server(), policy=getattr(flipcall.WaitPolicy, policy)())
    client = caller(policy)
    client.expect("connected")
    client.tell("add 1 2")
    client.expect("3")
    if moment == "calling":
        client.tell("wait x")
        assert began.wait(SOON)
    killed = time.monotonic()
    client.kill()
    if moment == "calling":
        assert cancelled.wait(SOON)
    wait_until(lambda: server.channels == 0, timeout=SOON + 1)
    assert time.monotonic() - killed < SOON
    assert connect(Site).add(1, 2) == 3


def test_kill_client_whose_child_lives(
    serve: Callable[..., flipcall.Server], path: str, transport: str, stack: ExitStack
) -> None:
    """A client's forked child holds its descriptors, and its death is noticed all the same."""

    def forking(path: str, transport: str) -> None:
        import os
        import time

        import flipcall
        from tests.faults.programs import Site

        flipcall.connect(Site, path, transport=transport)  # type: ignore[arg-type]
        site = flipcall.connect(Site, path, transport=transport)  # type: ignore[arg-type]
        assert site.add(1, 2) == 3
        pid = os.fork()
        while not pid:
            time.sleep(1)
        say(pid)  # type: ignore[name-defined]  # noqa: F821
        hear()  # type: ignore[name-defined]  # noqa: F821

    server = serve(SiteServer())
    with child(forking, path, transport) as client:
        grandchild = int(client.wait_line())
        try:
            client.kill()
            wait_until(lambda: server.channels == 0, timeout=SOON + 1)
        finally:
            os.kill(grandchild, signal.SIGKILL)


@pytest.mark.parametrize("said", [b"", b"\x05", b"\x05\0\0\0", b"\x05\0\0\0\x81"])
def test_kill_client_during_the_handshake(
    serve: Callable[..., flipcall.Server], connect: Callable[..., Site], path: str, said: bytes
) -> None:
    """A client that dies after no word, half a length, a length, half a message costs nobody anything."""

    def silent(path: str, said: bytes) -> None:
        import socket

        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        sock.sendall(said)
        say("said")  # type: ignore[name-defined]  # noqa: F821
        hear()  # type: ignore[name-defined]  # noqa: F821

    server = serve(SiteServer())
    with child(silent, path, said) as client:
        client.expect("said")
        wait_until(lambda: server.channels == 1)
        client.kill()
    wait_until(lambda: server.channels == 0, timeout=SOON + 1)
    assert connect(Site).add(1, 2) == 3


def test_a_clients_child_left_alone_ends(path: str, transport: str) -> None:
    """The server it has started itself outlives no client that asked for stop_with_parent."""

    def starting(path: str, transport: str) -> None:
        import subprocess
        import sys

        import flipcall
        from tests.faults.programs import Site
        from tests.support import wait_until

        code = (
            "import flipcall; from tests.faults.programs import SiteServer;"
            f"flipcall.serve(SiteServer(), {path!r}, stop_with_parent=True)"
        )
        server = subprocess.Popen([sys.executable, "-c", code])
        import os

        wait_until(lambda: os.path.exists(path))
        with flipcall.connect(Site, path, transport=transport) as site:  # type: ignore[arg-type]
            say(site.add(1, 2), server.pid)  # type: ignore[name-defined]  # noqa: F821
            hear()  # type: ignore[name-defined]  # noqa: F821

    with child(starting, path, transport) as client:
        answer, pid = client.wait_line().split()
        assert answer == "3"
        client.kill()
        wait_until(lambda: not os.path.exists(path))
        wait_until(lambda: process_state(int(pid)) in ("", "Z"))


def test_stopped_server(server: Child, connect: Callable[..., Site]) -> None:
    """A server under SIGSTOP: callers get away at their deadlines, new channels and large requests, too."""
    site = connect(Site, window_size=1 << 20, max_channels=2)
    assert site.add(1, 2) == 3
    stop(server.pid)
    quick = flipcall.with_options(site, timeout=0.2)
    for call in (
        lambda: quick.add(1, 2),  # the channel there is
        lambda: quick.add(1, 2),  # one more, which is not made in time
        lambda: quick.size(bytes(1_000_000)),
    ):
        begun = time.monotonic()
        with pytest.raises(flipcall.DeadlineExceeded):
            call()
        assert 0.2 <= time.monotonic() - begun < 0.2 + SOON
    server.signal(signal.SIGCONT)
    assert site.add(1, 2) == 3


def test_stopped_server_and_a_large_request(server: Child, connect: Callable[..., Site]) -> None:
    """A request larger than any buffer between the two does not hold its caller past the deadline."""
    site = connect(Site, window_size=8 << 20, max_channels=1)
    stop(server.pid)
    begun = time.monotonic()
    with pytest.raises(flipcall.DeadlineExceeded):
        flipcall.with_options(site, timeout=0.2).size(bytes(4 << 20))
    assert 0.2 <= time.monotonic() - begun < 0.2 + SOON
    server.signal(signal.SIGCONT)
    assert flipcall.with_options(site, timeout=10).size(bytes(4 << 20)) == 4 << 20


def test_stopped_server_does_not_take_connections_for_ever(server: Child, path: str, transport: Any) -> None:
    """connect() gives up after its connect_timeout."""
    stop(server.pid)
    begun = time.monotonic()
    with pytest.raises(flipcall.DeadlineExceeded):
        flipcall.connect(Site, path, transport=transport, connect_timeout=0.2)
    assert 0.2 <= time.monotonic() - begun < 0.2 + SOON
    server.signal(signal.SIGCONT)


def test_stopped_client(
    serve: Callable[..., flipcall.Server], caller: Callable[..., Child], connect: Callable[..., Site]
) -> None:
    """A client under SIGSTOP holds up nobody, and not the end of the server."""
    server = serve(SiteServer())
    client = caller()
    client.expect("connected")
    stop(client.pid)
    assert connect(Site).add(1, 2) == 3
    begun = time.monotonic()
    server.stop()
    assert time.monotonic() - begun < SOON
    client.signal(signal.SIGCONT)


def test_serve_ends_at_sigterm(path: str) -> None:
    """SIGTERM ends flipcall.serve(), its socket removed, status 0, with the call under way answered first."""
    with child(serving_until_signalled, path) as server:
        wait_until(lambda: os.path.exists(path))
        with flipcall.connect(Site, path) as site, ThreadPoolExecutor(1) as threads:
            call = threads.submit(flipcall.with_options(site, timeout=0.5).wait, "call")
            server.expect("began call")
            server.signal(signal.SIGTERM)
            error = call.exception(10)  # the handler returns at the same deadline, and may be the first
            assert error is None or isinstance(error, flipcall.DeadlineExceeded)
            server.expect("cancelled call")
            server.expect("returned")
            assert server.wait() == 0
            with pytest.raises((flipcall.ClosedError, flipcall.PeerDiedError, FileNotFoundError)):
                site.add(1, 2)
        assert not os.path.exists(path)


def test_serve_ends_at_a_sigterm_that_came_early(path: str) -> None:
    """SIGTERM at any moment from the first ends serve() in order."""

    def early(path: str) -> None:
        import os
        import signal

        import flipcall
        from flipcall import server
        from tests.faults.programs import SiteServer

        start = server.Server.start

        def late_start(self: flipcall.Server) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            start(self)

        server.Server.start = late_start  # type: ignore[method-assign]
        flipcall.serve(SiteServer(), path)
        say("returned")  # type: ignore[name-defined]  # noqa: F821

    with child(early, path) as server:
        server.expect("returned")
        assert server.wait() == 0
    assert not os.path.exists(path)
