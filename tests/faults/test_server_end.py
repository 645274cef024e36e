"""How a server begins and ends: its socket's name, draining, and what stop() promises."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import flipcall
from flipcall.conformance.deadlines import MARGIN, Handler
from flipcall.conformance.services import Desk, DeskServer
from tests.faults.programs import Site, SiteServer, serving
from tests.support import child, wait_until

SOON = 1.0


def test_the_socket_is_its_users_alone(serve: Callable[..., Any], path: str) -> None:
    """The socket has mode 0600, and goes with the server."""
    server = serve(SiteServer())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    server.stop()
    assert not os.path.exists(path)


def test_a_stale_socket_is_replaced(
    serve: Callable[..., Any], connect: Callable[..., Site], path: str
) -> None:
    """What a killed server left behind does not keep the next one from starting."""
    with child(serving, path) as server:
        server.expect("listens")
        server.kill()
    assert os.path.exists(path)
    serve(SiteServer())
    assert connect(Site).add(1, 2) == 3


def test_a_live_socket_is_refused(serve: Callable[..., Any], connect: Callable[..., Site], path: str) -> None:
    """A second server on the same path is refused, and the first does not notice."""
    serve(SiteServer())
    with pytest.raises(OSError, match="in use"):
        flipcall.Server(SiteServer(), path).start()
    assert connect(Site).add(1, 2) == 3


@pytest.mark.parametrize("what", ["file", "directory", "link to nothing", "datagram socket"])
def test_what_is_not_ours_is_left_alone(path: str, what: str) -> None:
    """A file, directory, link or foreign socket under that name stays as it is."""
    made: dict[str, Callable[[], Any]] = {
        "file": lambda: Path(path).write_text("precious"),
        "directory": lambda: os.mkdir(path),
        "link to nothing": lambda: os.symlink("/nowhere", path),
        "datagram socket": lambda: other.bind(path),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        made[what]()
        before = os.lstat(path)
        with pytest.raises(OSError, match="in use"):
            flipcall.Server(SiteServer(), path).start()
        after = os.lstat(path)
    assert (before.st_ino, before.st_mode, before.st_size) == (after.st_ino, after.st_mode, after.st_size)


def test_of_many_that_start_at_once_one_wins(path: str, connect: Callable[..., Site]) -> None:
    """Servers racing for a stale name: one serves there, the others are refused, none removes the winner's."""
    for _ in range(10):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        servers = [flipcall.Server(SiteServer(), path) for _ in range(6)]
        barrier = threading.Barrier(6)

        def start(server: flipcall.Server, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            try:
                server.start()
            except OSError:
                return False
            return True

        with ThreadPoolExecutor(6) as threads:
            assert sum(threads.map(start, servers)) == 1
        with flipcall.connect(Site, path) as site:
            assert site.add(1, 2) == 3
        for server in servers:
            server.stop()
        assert not os.path.exists(path)


def test_stop_leaves_its_successors_socket(path: str) -> None:
    """A server whose socket was removed by hand, and another started, does not remove that one's name."""
    old = flipcall.Server(SiteServer(), path)
    old.start()
    os.unlink(path)
    with flipcall.Server(SiteServer(), path):
        old.stop()
        with flipcall.connect(Site, path) as site:
            assert site.add(1, 2) == 3


@pytest.mark.parametrize("where", ["", "missing/s", "x" * 200])
def test_paths_that_cannot_be(tmp_path: Path, where: str) -> None:
    """A path that cannot be bound is an OSError at start(), and nothing is left open."""
    with pytest.raises(OSError):  # noqa: PT011
        flipcall.Server(SiteServer(), tmp_path / where).start()


@pytest.mark.parametrize("where", ["missing", "x" * 200, "file"])
def test_paths_nobody_listens_at(tmp_path: Path, transport: Any, where: str) -> None:
    """connect() to where no server is, is an OSError that says so."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError):  # noqa: PT011
        flipcall.connect(Site, tmp_path / where, transport=transport)


def test_a_path_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: Any
) -> None:
    """A bare name is a path, too."""
    monkeypatch.chdir(tmp_path)
    with flipcall.Server(SiteServer(), "s"), flipcall.connect(Site, "s", transport=transport) as site:
        assert site.add(1, 2) == 3


def test_stop_drains(
    serve: Callable[..., flipcall.Server], connect: Callable[..., Desk], path: str, transport: Any
) -> None:
    """The call under way is answered, idle clients are closed, new connections refused, threads gone."""
    desk_server = DeskServer()
    handler = Handler(desk_server.jobs)
    server = serve(desk_server)
    busy, idle = connect(Desk), connect(Desk)
    assert idle.add(1) == 11
    with ThreadPoolExecutor(2) as threads:
        call = threads.submit(busy.run, "wait")
        assert handler.entered.wait(MARGIN)
        stopping = threads.submit(server.stop, 10.0)
        wait_until(lambda: server.channels == 1)
        with pytest.raises(flipcall.ClosedError):
            idle.add(1)
        with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
            flipcall.connect(Desk, path, transport=transport)
        assert not stopping.done()
        handler.go.set()
        assert call.result(MARGIN) == "late"
        stopping.result(MARGIN)
    assert server.channels == 0
    with pytest.raises((flipcall.ClosedError, FileNotFoundError)):
        busy.add(1)


def test_stop_does_not_wait_for_ever(
    serve: Callable[..., flipcall.Server], connect: Callable[..., Desk]
) -> None:
    """After the grace the caller of a handler that goes on gets ClosedError; the handler sees it is cancelled."""
    desk_server = DeskServer()
    handler = Handler(desk_server.jobs)
    server = serve(desk_server)
    desk = connect(Desk)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(desk.run, "wait")
        assert handler.entered.wait(MARGIN)
        begun = time.monotonic()
        server.stop(grace=0.1)
        assert time.monotonic() - begun < SOON + 0.5
        assert isinstance(call.exception(MARGIN), flipcall.ClosedError)
        assert handler.cancelled.wait(MARGIN)
        handler.go.set()


def test_stop_does_not_wait_for_those_who_say_nothing(
    serve: Callable[..., flipcall.Server], path: str
) -> None:
    """A connection that has not shaken hands is no call under way."""
    server = serve(SiteServer())
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(path)
        wait_until(lambda: server.channels == 1)
        begun = time.monotonic()
        server.stop(grace=30.0)
        assert time.monotonic() - begun < SOON
        assert silent.recv(1) == b""


def test_a_handler_may_stop_its_server(
    serve: Callable[..., flipcall.Server], connect: Callable[..., Desk], path: str
) -> None:
    """stop() from a handler: that call is answered, then the server ends."""
    desk_server = DeskServer()
    server = serve(desk_server)
    desk_server.jobs["stop"] = server.stop
    assert connect(Desk).run("stop") is None
    wait_until(lambda: server.channels == 0 and not os.path.exists(path))
    wait_until(lambda: not any(t.name == "flipcall-watcher" for t in threading.enumerate()))


def test_stop_while_clients_come(path: str, transport: Any) -> None:
    """stop() at any moment of a crowd of new clients: it returns, and nobody is served after it."""
    for _ in range(5):
        server = flipcall.Server(SiteServer(), path)
        server.start()
        come = threading.Event()

        def visit(server: flipcall.Server = server, come: threading.Event = come) -> None:
            while True:
                try:
                    with flipcall.connect(Site, path, transport=transport) as site:
                        assert site.add(1, 2) == 3
                        come.set()
                except (flipcall.FlipcallError, OSError):
                    return

        with ThreadPoolExecutor(4) as threads:
            visits = [threads.submit(visit) for _ in range(4)]
            assert come.wait(MARGIN)
            server.stop()
            assert server.channels == 0
            for v in visits:
                v.result(MARGIN)


def test_stop_is_idempotent_and_starting_again_is_not_possible(path: str) -> None:
    """stop() may be called at any time, again, and before start(); a server starts once."""
    server = flipcall.Server(SiteServer(), path)
    with server, pytest.raises(flipcall.MisuseError):
        server.start()
    server.stop()
    with pytest.raises(flipcall.MisuseError):
        server.start()
    never = flipcall.Server(SiteServer(), path)
    never.stop()
    with pytest.raises(flipcall.MisuseError):
        never.start()


def test_a_parent_that_is_gone(path: str) -> None:
    """A server that shall stop with its parent ends when that does, and removes its socket."""

    def parent(path: str) -> None:
        import subprocess
        import sys

        code = (
            "import flipcall; from tests.faults.programs import SiteServer;"
            f"flipcall.serve(SiteServer(), {path!r}, stop_with_parent=True)"
        )
        subprocess.Popen([sys.executable, "-c", code])
        hear()  # type: ignore[name-defined]  # noqa: F821

    with child(parent, path) as process:
        wait_until(lambda: os.path.exists(path))
        site = flipcall.connect(Site, path)
        assert site.add(1, 2) == 3
        process.kill()
        wait_until(lambda: not os.path.exists(path))
        with site:
            wait_until(lambda: _has_ended(site))  # some time after its name


def test_no_answer_is_lost_while_draining(path: str, transport: Any) -> None:
    """A call that was executed is answered, however close behind its answer the end of the server comes."""
    for _ in range(10):
        done: list[int] = []

        class Counting(SiteServer):
            def add(self, a: int, b: int, done: list[int] = done) -> int:
                done.append(a)
                return a + b

        server = flipcall.Server(Counting(), path)
        server.start()
        with flipcall.connect(Site, path, transport=transport) as site, ThreadPoolExecutor(1) as threads:
            answered: list[int] = []

            def ask(site: Site = site, answered: list[int] = answered) -> None:
                while True:
                    answered.append(site.add(len(answered), 0))

            asking = threads.submit(ask)
            wait_until(lambda done=done: len(done) > 10)  # type: ignore[misc]
            begun = time.monotonic()
            server.stop(grace=30.0)
            assert time.monotonic() - begun < SOON
            assert asking.exception(MARGIN) is not None
        assert len(done) == len(answered)


def _has_ended(site: Site) -> bool:
    try:
        return site.add(1, 2) != 3
    except (flipcall.ClosedError, flipcall.PeerDiedError, OSError):
        return True


def test_draining_is_not_kept_waiting(
    serve: Callable[..., flipcall.Server], connect: Callable[..., Desk]
) -> None:
    """A client that asks again at once is let go after the answer to the call under way, or to the next one."""
    desk_server = DeskServer()
    server = serve(desk_server)
    desk_server.jobs["slow"] = lambda: time.sleep(0.02)
    desk = connect(Desk, max_channels=1)
    answered: list[int] = []

    def ask() -> None:
        while True:
            desk.run("slow")
            answered.append(1)

    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(ask)
        wait_until(lambda: len(answered) > 2)
        before = len(answered)
        server.stop(grace=30.0)
        assert isinstance(asking.exception(MARGIN), (flipcall.ClosedError, OSError))
    assert len(answered) - before <= 3


def test_a_server_that_is_renewed(path: str) -> None:
    """An idle client of a server that was stopped calls the next one at that path: its channels ended before they
    were given a call. Without a next one that is a ClosedError.
    """
    server = flipcall.Server(SiteServer(), path)
    server.start()
    with flipcall.connect(Site, path) as site, flipcall.connect(Site, path) as other:
        assert site.add(1, 2) == other.add(1, 2) == 3
        server.stop()
        with pytest.raises(flipcall.ClosedError):
            other.add(1, 2)
        with flipcall.Server(SiteServer(), path):
            assert site.add(3, 4) == 7
            assert other.add(3, 4) == 7
