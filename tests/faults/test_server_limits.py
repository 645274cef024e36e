"""What a server allows, of either kind: so many channels, so many calls, so much time, these users."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

import flipcall
from flipcall.conformance.deadlines import MARGIN, SHORT, Handler
from flipcall.conformance.services import Desk, DeskServer
from tests.conformance.conftest import loop, serve, transport
from tests.faults.programs import Site, SiteServer, calling
from tests.support import REPOSITORY, child, wait_until

__all__ = ["kind", "loop", "serve", "transport"]

EXHAUSTED = flipcall.Status.RESOURCE_EXHAUSTED


@pytest.fixture(params=["window", "socket", "loop server", "socket to loop server"])
def kind(request: pytest.FixtureRequest) -> str:
    """How frames travel, and where the server lives."""
    return str(request.param)


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


def test_calls_wait_where_the_server_has_no_room_for_one_more_channel(
    serve: Callable[..., flipcall.Server], connect: Callable[..., Desk]
) -> None:
    """A client that has a channel waits for that one, until the deadline; it takes more once it may."""
    desk_server = DeskServer()
    handlers = [Handler(desk_server.jobs, name=f"wait{i}") for i in range(2)]
    server = serve(desk_server, max_channels=2)
    desk, other = connect(Desk, max_channels=4), connect(Desk)
    with ThreadPoolExecutor(2) as threads, ExitStack() as leaving:
        for handler in handlers:
            leaving.callback(handler.go.set)
        first = threads.submit(desk.run, "wait0")
        assert handlers[0].entered.wait(MARGIN)
        with pytest.raises(flipcall.DeadlineExceeded, match="1 of at most 4"):
            flipcall.with_options(desk, timeout=SHORT).add(1)
        second = threads.submit(desk.run, "wait1")
        other.close()
        assert handlers[1].entered.wait(MARGIN)
        assert server.channels == 2
        leaving.close()
        assert [first.result(MARGIN), second.result(MARGIN)] == ["late", "late"]


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


@pytest.mark.parametrize("limit", ["max_channels", "max_channels_per_client", "max_calls", "message_max"])
def test_limits_that_cannot_be(serve: Callable[..., flipcall.Server], limit: str) -> None:
    """A limit below one is the program's mistake."""
    with pytest.raises(flipcall.MisuseError, match=limit):
        serve(SiteServer(), **{limit: 0})


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
        if thread.name in ("flipcall-channel", "flipcall-handshake"):
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
