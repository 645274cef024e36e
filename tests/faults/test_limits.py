"""Shortage: no channels, no descriptors, no threads, no right to connect; and crowds that come and go."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

import flipcall
from tests.conformance.services import Desk, DeskServer
from tests.conformance.test_deadlines import MARGIN, Handler
from tests.faults.programs import Site, SiteServer, calling, serving
from tests.leaks import Holdings
from tests.support import REPOSITORY, child, wait_until

EXHAUSTED = flipcall.Status.RESOURCE_EXHAUSTED


def test_no_more_channels_than_allowed(
    serve: Callable[..., flipcall.Server], connect: Callable[..., Site], path: str, transport: Any
) -> None:
    """The client too many is told so; the others are served, and its place is free when one leaves."""
    server = serve(SiteServer(), max_channels=2)
    one, two = connect(Site), connect(Site)
    for _ in range(20):
        with pytest.raises(flipcall.CallError, match="2 channels") as info:
            flipcall.connect(Site, path, transport=transport)
        assert info.value.status is EXHAUSTED
    assert one.add(1, 2) == two.add(1, 2) == 3
    two.close()
    wait_until(lambda: server.channels == 1)
    assert connect(Site).add(1, 2) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_no_more_channels_of_a_client_than_allowed(
    serve: Callable[..., flipcall.Server],
    connect: Callable[..., Site],
    path: str,
    transport: Any,
    workers: int,
) -> None:
    """A client that wants too many is told the numbers, wherever its others are; another process is served."""
    how: Any = {"workers": workers, "start_method": "fork"}
    server = serve(SiteServer(), max_channels_per_client=3, **how)
    mine = [connect(Site) for _ in range(3)]
    for _ in range(5):
        with pytest.raises(flipcall.CallError, match=f"process {os.getpid()} has 3 channels.* 3") as info:
            flipcall.connect(Site, path, transport=transport)
        assert info.value.status is EXHAUSTED
    with child(calling, path, transport, "balanced") as other:
        other.expect("connected")
        other.tell("add 1 2")
        other.expect("3")
        assert server.channels == 4
    mine.pop().close()
    wait_until(lambda: server.channels == 2)
    assert connect(Site).add(1, 2) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_channels_than_allowed_over_all_workers(
    serve: Callable[..., flipcall.Server],
    connect: Callable[..., Site],
    path: str,
    transport: Any,
    workers: int,
) -> None:
    """However many processes serve at the socket, its limit of channels is one; a dead worker frees its places."""
    server = serve(SiteServer(), max_channels=4, workers=workers, start_method="fork")
    four = [connect(Site) for _ in range(4)]
    with pytest.raises(flipcall.CallError, match="4 channels") as info:
        flipcall.connect(Site, path, transport=transport)
    assert info.value.status is EXHAUSTED
    assert [site.add(1, 2) for site in four] == [3] * 4
    os.kill(server.workers[0], signal.SIGKILL)
    wait_until(lambda: server.channels == 4 - 4 // workers)
    wait_until(lambda: len(server.workers) == workers)
    assert connect(Site).add(1, 2) == 3


def test_no_more_calls_than_allowed(
    serve: Callable[..., flipcall.Server], connect: Callable[..., Desk], transport: Any
) -> None:
    """The call too many is answered with the number at once, and those under way go on; later ones are served."""
    desk_server = DeskServer()
    handlers = [Handler(desk_server.jobs, name=f"wait{i}") for i in range(2)]
    serve(desk_server, max_calls=2)
    desk = connect(Desk, max_channels=4)
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(desk.run, f"wait{i}") for i in range(2)]
        assert all(handler.entered.wait(MARGIN) for handler in handlers)
        for _ in range(3):
            with pytest.raises(flipcall.CallError, match="2 calls") as info:
                desk.add(1)
            assert info.value.status is EXHAUSTED
        handlers[0].go.set()
        assert calls[0].result(MARGIN) == "late"
        assert desk.add(1) == 11
        handlers[1].go.set()
        assert calls[1].result(MARGIN) == "late"


@pytest.mark.parametrize("limit", ["max_channels", "max_channels_per_client", "max_calls"])
def test_limits_that_cannot_be(path: str, limit: str) -> None:
    """A limit below one is the program's mistake."""
    with pytest.raises(flipcall.MisuseError, match=limit):
        flipcall.Server(SiteServer(), path, **{limit: 0})  # type: ignore[arg-type]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a child as another user")
def test_another_user_is_refused(
    serve: Callable[..., flipcall.Server], transport: str, stack: ExitStack
) -> None:
    """A process of another user is refused, by the file's mode and, where that lets it, by its credentials."""
    directory = stack.enter_context(tempfile.TemporaryDirectory())  # tmp_path is closed to others
    os.chmod(directory, 0o755)
    path = f"{directory}/s"
    code = f"""
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
import flipcall
from tests.faults.programs import Site
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    flipcall.connect(Site, {path!r}, transport={transport!r})
except (OSError, flipcall.CallError) as e:
    print(type(e).__name__, int(getattr(e, "status", 0)))
"""

    def visit() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False
        )
        assert done.stderr == ""
        return done.stdout

    serve(SiteServer(), at=path)
    assert visit().startswith("PermissionError")
    os.chmod(path, 0o666)
    assert visit() == f"CallError {int(flipcall.Status.PERMISSION_DENIED)}\n"


def test_server_out_of_descriptors(path: str, transport: Any) -> None:
    """Clients it cannot take are told at once, those it has are served, and later ones again."""

    def poor(path: str) -> None:
        import os
        import resource

        import flipcall
        from tests.faults.programs import SiteServer

        server = flipcall.Server(SiteServer(), path)
        server.start()
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 9, used + 9))
        say("listens")  # type: ignore[name-defined]  # noqa: F821
        hear()  # type: ignore[name-defined]  # noqa: F821

    with child(poor, path, stderr=subprocess.DEVNULL) as server:
        server.expect("listens")
        clients: list[Site] = []
        errors: list[BaseException] = []
        begun = time.monotonic()
        for _ in range(15):
            try:
                clients.append(flipcall.connect(Site, path, transport=transport))
            except (flipcall.CallError, flipcall.ClosedError) as e:
                errors.append(e)
        assert time.monotonic() - begun < 5
        assert clients
        assert any(isinstance(e, flipcall.CallError) and e.status is EXHAUSTED for e in errors)
        assert [c.add(i, 1) for i, c in enumerate(clients)] == list(range(1, len(clients) + 1))
        for client in clients:
            client.close()

        def served_again() -> bool:
            try:
                with flipcall.connect(Site, path, transport=transport) as site:
                    return site.add(1, 2) == 3
            except (flipcall.CallError, flipcall.ClosedError):
                return False

        wait_until(served_again)


def test_client_out_of_descriptors(server: Any, path: str, transport: Any) -> None:
    """A client that cannot take one more descriptor gets an error, and leaks none of those it got."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with flipcall.connect(Site, path, transport=transport) as site:
        held = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
        try:
            for room in range(5):
                resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, before[1]))
                for fd in held[:room]:
                    os.close(fd)
                try:
                    flipcall.connect(Site, path, transport=transport).close()
                except (OSError, flipcall.FlipcallError):
                    pass
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, before)
                for i in range(room):
                    held[i] = os.open("/dev/null", os.O_RDONLY)
                assert site.add(1, 2) == 3
        finally:
            for fd in held:
                os.close(fd)


def test_server_out_of_threads(
    serve: Callable[..., flipcall.Server],
    connect: Callable[..., Site],
    path: str,
    transport: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A client for whom no thread can be started is told; the server goes on."""
    server = serve(SiteServer())
    start = threading.Thread.start

    def none_left(thread: threading.Thread) -> None:
        if thread.name == "flipcall-channel":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(flipcall.CallError) as info:
            flipcall.connect(Site, path, transport=transport)
        assert info.value.status is EXHAUSTED
    assert server.channels == 0
    assert connect(Site).add(1, 2) == 3


def test_hundreds_at_once(serve: Callable[..., flipcall.Server], path: str, transport: Any) -> None:
    """More clients at the same moment than the backlog holds: all are served."""
    serve(SiteServer(), max_channels=1024)
    come = threading.Barrier(200)
    served: list[int] = []

    def visit(i: int) -> None:
        come.wait()
        with flipcall.connect(Site, path, transport=transport, window_size=4096) as site:
            served.append(site.add(i, 1))

    with ThreadPoolExecutor(200) as threads:
        for visitor in [threads.submit(visit, i) for i in range(200)]:
            visitor.result(30)
    assert sorted(served) == list(range(1, 201))


def test_crowds_leave_nothing(path: str, transport: Any) -> None:
    """Hundreds of clients that come, call and vanish, politely or not: no descriptor, thread or map stays."""
    with child(serving, path) as server:
        server.expect("listens")

        def holdings() -> tuple[int, int, int]:
            maps = open(f"/proc/{server.pid}/maps").read().count("memfd:")  # noqa: SIM115
            tasks = len(os.listdir(f"/proc/{server.pid}/task"))
            return len(os.listdir(f"/proc/{server.pid}/fd")), tasks, maps

        def settled() -> bool:
            return holdings() == before

        flipcall.connect(Site, path, transport=transport).close()
        wait_until(lambda: holdings()[1] == 2)
        before = holdings()
        here = Holdings.now()
        for i in range(300):
            with socket.socket(socket.AF_UNIX) as rude:
                rude.connect(path)
                rude.sendall(b"\0\0\0"[: i % 4])
            if i % 3 == 0:
                with flipcall.connect(Site, path, transport=transport, window_size=4096) as site:
                    assert site.add(1, i) == i + 1
        wait_until(settled, what="the server holds what it held before")
        assert Holdings.now().beyond(here) == []


def test_silent_clients_are_sent_away(
    serve: Callable[..., flipcall.Server],
    connect: Callable[..., Site],
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that connects and says nothing is hung up on after the handshake's time; others do not wait."""
    from flipcall import admission

    monkeypatch.setattr(admission, "HANDSHAKE_S", 0.2)
    server = serve(SiteServer())
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(path)
        silent.settimeout(10)
        assert connect(Site).add(1, 2) == 3
        assert silent.recv(1) == b""
    wait_until(lambda: server.channels == 1)
