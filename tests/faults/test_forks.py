"""fork, spawn and forkserver: what a child process has of its parent's clients and servers, and what it can make.

What is inherited raises ForkedError when it is used and can be closed; the parent notices nothing, whatever its
threads were in the middle of.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import flipcall
from tests.faults.programs import Site, SiteServer
from tests.support import wait_until
from tests.window import forks

METHODS = ["fork", "spawn", "forkserver"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.usefixtures("no_fork_server"),
]

inherited: Any = None  # what a forked child finds in its copy of this module


@pytest.fixture
def transport() -> str:
    """Where it makes no difference to forks, the one that is used most."""
    return "window"


def visit(path: str, transport: Any, answers: Any) -> None:
    """A child process: what has become of the parent's client, and a client of its own."""
    with suppress(flipcall.ForkedError):
        if inherited is not None:
            answers.send(inherited.add(1, 2))
    with flipcall.connect(Site, path, transport=transport) as site:
        answers.send(site.add(3, 4))


def host(path: str, answers: Any) -> None:
    """A child process that serves."""
    with flipcall.Server(SiteServer(), path):
        answers.send("serves")
        answers.recv()


@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_calls(
    serve: Callable[..., Any],
    connect: Callable[..., Site],
    path: str,
    transport: str,
    method: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A child, however it was started, calls through a client of its own and not through the parent's."""
    serve(SiteServer())
    site = connect(Site)
    assert site.add(1, 2) == 3
    monkeypatch.setattr("tests.faults.test_forks.inherited", site)
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    with ours, theirs:
        process = context.Process(target=visit, args=(path, transport, theirs))
        process.start()
        assert ours.recv() == 7
        process.join()
        assert process.exitcode == 0
        process.close()
    assert site.add(5, 6) == 11


@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_serves(connect: Callable[..., Site], path: str, method: Any) -> None:
    """A child, however it was started, serves its parent, which has a server of its own meanwhile."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    with ours, theirs, flipcall.Server(SiteServer(), f"{path}.own"):
        process = context.Process(target=host, args=(path, theirs))
        process.start()
        assert ours.recv() == "serves"
        assert connect(Site).add(1, 2) == 3
        assert connect(Site, at=f"{path}.own").add(3, 4) == 7
        ours.send("end")
        process.join()
        process.close()
    assert not os.path.exists(path)


def test_nothing_of_it_can_be_sent(serve: Callable[..., Any], connect: Callable[..., Site]) -> None:
    """Clients and servers cannot be pickled into another process, and say what to do instead."""
    server = serve(SiteServer())
    with pytest.raises(flipcall.MisuseError, match="connect there"):
        pickle.dumps(connect(Site))
    with pytest.raises(flipcall.MisuseError, match="make one there"):
        pickle.dumps(server)


@pytest.mark.parametrize("transport", ["window", "socket"])
def test_fork_amid_calls(serve: Callable[..., Any], connect: Callable[..., Site], path: str) -> None:
    """Children forked at any moment of other threads' calls: theirs is ForkedError, none hangs, and the parent's
    calls and clients go on.
    """
    serve(SiteServer())
    site = connect(Site, max_channels=2)
    ended = threading.Event()

    def call(i: int) -> int:
        n = 0
        while not ended.is_set():
            assert site.add(n, i) == n + i
            n += 1
        return n

    def come_and_go() -> None:
        while not ended.is_set():
            connect(Site).add(1, 2)

    def try_it() -> None:
        with pytest.raises(flipcall.ForkedError):
            site.add(1, 2)
        site.close()  # type: ignore[attr-defined]
        with flipcall.connect(Site, path, connect_timeout=20) as own:
            assert own.add(1, 2) == 3

    with ThreadPoolExecutor(4) as threads:
        calling = [threads.submit(call, i) for i in range(3)]
        coming = threads.submit(come_and_go)
        try:
            assert [forks.run(try_it) for _ in range(20)] == [0] * 20
        finally:
            ended.set()
        assert all(c.result() > 0 for c in calling)
        coming.result()
    assert site.add(1, 2) == 3


@pytest.mark.parametrize("transport", ["window", "socket"])
def test_a_stream_that_is_the_parents(serve: Callable[..., Any], connect: Callable[..., Site]) -> None:
    """What had come before the fork is there; then it raises ForkedError, and the parent reads on."""
    serve(SiteServer())
    site = connect(Site)
    numbers = site.count(100_000)
    assert next(numbers) == 0

    def read_on() -> None:
        with pytest.raises(flipcall.ForkedError):
            list(numbers)

    assert forks.run(read_on) == 0
    assert list(numbers) == list(range(1, 100_000))
    assert site.add(1, 2) == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_a_server_that_is_the_parents(
    serve: Callable[..., Any], connect: Callable[..., Site], path: str, workers: int
) -> None:
    """In the child it raises ForkedError, stopping it changes nothing, and its end ends nothing."""
    server = serve(SiteServer(), workers=workers, start_method="fork")
    site = connect(Site)

    def try_it() -> None:
        for use in (server.start, server.listen, server.serve_forever):
            with pytest.raises(flipcall.ForkedError):
                use()
        server.request_stop()
        server.stop()
        assert server.channels == 0
        assert server.workers == []

    assert forks.run(try_it) == 0
    assert os.path.exists(path)
    assert site.add(1, 2) == 3
    assert connect(Site).add(1, 2) == 3


def test_a_server_that_has_not_begun(path: str, connect: Callable[..., Site]) -> None:
    """It is as much the child's: made before a fork, it may serve after it."""
    server = flipcall.Server(SiteServer(), path)
    read, write = os.pipe()

    def serve_there() -> None:
        os.close(write)
        with server:
            os.read(read, 1)

    pid = forks.fork(serve_there)
    os.close(read)
    try:
        wait_until(lambda: os.path.exists(path))
        assert connect(Site).add(1, 2) == 3
    finally:
        os.close(write)
    assert forks.wait(pid) == 0


def test_a_socket_made_before_it_is_served(path: str, connect: Callable[..., Site], tmp_path: Path) -> None:
    """listen() makes the socket and start() serves it: who connects between waits, and stop() removes it."""
    server = flipcall.Server(SiteServer(), path)
    server.listen()
    server.listen()
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(lambda: connect(Site).add(1, 2))
        server.start()
        assert call.result(20) == 3
    server.stop()
    never = flipcall.Server(SiteServer(), tmp_path / "never")
    never.listen()
    never.stop()
    assert os.listdir(tmp_path) == []
