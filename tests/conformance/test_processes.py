"""What happens to a process that calls: Ctrl-C in the middle, and fork."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import flipcall
from flipcall.conformance.deadlines import MARGIN, Handler
from flipcall.conformance.services import Bulk, BulkServer, Desk
from tests.support import child

Jobs = dict[str, Callable[[], Any]]


def calling(path: str, transport: str) -> None:
    """A child that calls, is interrupted, and calls on."""
    import flipcall
    from flipcall.conformance.services import Desk

    with flipcall.connect(Desk, path, transport=transport, max_channels=1) as desk:  # type: ignore[arg-type]
        say("calls")  # type: ignore[name-defined]  # noqa: F821
        try:
            desk.run("wait")
        except KeyboardInterrupt:
            say("interrupted")  # type: ignore[name-defined]  # noqa: F821
        hear()  # type: ignore[name-defined]  # noqa: F821
        say(desk.add(1))  # type: ignore[name-defined]  # noqa: F821


def test_ctrl_c(jobs: Jobs, path: str, transport: str) -> None:
    """SIGINT ends a call under way at once with KeyboardInterrupt; the handler sees it, and the client goes on."""
    handler = Handler(jobs)
    with child(calling, path, transport) as caller:
        caller.expect("calls")
        assert handler.entered.wait(MARGIN)
        caller.signal(signal.SIGINT)
        caller.expect("interrupted")
        assert handler.cancelled.wait(MARGIN)
        handler.go.set()
        caller.tell("go on")
        caller.expect("11")
        assert caller.wait() == 0


def test_ctrl_c_during_a_large_request(serve: Callable[..., Any], path: str, transport: str) -> None:
    """SIGINT while a request is written leaves no half of it before the next one."""
    serve(BulkServer(), window_max=64 << 20, message_max=16 << 20)

    def writing(path: str, transport: str) -> None:
        import flipcall
        from flipcall.conformance.services import Bulk

        data = bytes(8 << 20)
        with flipcall.connect(Bulk, path, transport=transport, window_size=16 << 20) as bulk:  # type: ignore[arg-type]
            for _ in range(5):
                try:
                    say("calls")  # type: ignore[name-defined]  # noqa: F821
                    while True:
                        assert bulk.size(data) == len(data)
                        assert bulk.same(b"abc") == b"abc"
                except KeyboardInterrupt:
                    pass
            assert bulk.size(data) == len(data)
            say("right")  # type: ignore[name-defined]  # noqa: F821

    with child(writing, path, transport) as caller:
        for _ in range(5):
            caller.expect("calls")
            caller.signal(signal.SIGINT)
        caller.expect("right")


def in_a_fork(what: Callable[[], None]) -> str:
    """Run `what` in a forked child; what it raised, or "" when nothing. The child ends without a trace."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            what()
        except BaseException as e:
            os.write(write, f"{type(e).__name__}: {e}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        result = said.read()
    os.waitpid(pid, 0)
    return result


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestFork:
    """A forked child has copies of what is its parent's."""

    def test_a_client_in_the_child(self, desk: Desk) -> None:
        """It raises ForkedError there, and goes on here."""
        assert desk.add(1) == 11
        assert in_a_fork(lambda: desk.add(1) and None).startswith("ForkedError")
        assert desk.add(2) == 12

    def test_closing_it_in_the_child(self, desk: Desk) -> None:
        """The child may close its copy, the parent's goes on."""
        assert desk.add(1) == 11
        assert in_a_fork(desk.close) == ""
        assert desk.add(2) == 12
        assert flipcall.with_options(desk, timeout=1.0).add(3) == 13

    def test_with_a_late_answer_under_way(self, desk: Desk, jobs: Jobs) -> None:
        """The child does not take the answer that the parent's channel waits for."""
        handler = Handler(jobs)
        with pytest.raises(flipcall.DeadlineExceeded):
            flipcall.with_options(desk, timeout=0.05).run("wait")
        handler.go.set()
        assert handler.left.wait(MARGIN)
        assert in_a_fork(lambda: desk.add(1) and None).startswith("ForkedError")
        assert [desk.add(i) for i in range(3)] == [10, 11, 12]

    def test_a_client_of_its_own(self, desk: Desk, path: str, transport: Any) -> None:
        """The child can connect anew."""

        def calls() -> None:
            with flipcall.connect(Desk, path, transport=transport) as own:
                assert own.add(3) == 13

        assert in_a_fork(calls) == ""
        assert desk.add(2) == 12

    def test_a_server_in_the_child(
        self, serve: Callable[..., Any], connect: Callable[..., Bulk], path: str
    ) -> None:
        """The child's copy of a server does nothing: its stop() leaves the parent's clients and socket alone."""
        server = serve(BulkServer())
        bulk = connect(Bulk)
        assert bulk.same(b"a") == b"a"
        assert in_a_fork(server.stop) == ""
        assert os.path.exists(path)
        assert bulk.same(b"b") == b"b"
        assert connect(Bulk).same(b"c") == b"c"

    def test_a_handler_that_forks(self, desk: Desk, jobs: Jobs) -> None:
        """A handler may fork; its child says nothing to the client, and the parent answers."""
        jobs["fork"] = lambda: in_a_fork(lambda: None)
        assert desk.run("fork") == ""
        assert desk.add(1) == 11


def serving(path: str) -> None:
    """A server whose handler leaves a child behind that lives on."""
    import os
    import time

    import flipcall
    from flipcall.conformance.services import DeskServer

    def forks() -> int:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(write, b".")  # what fork() closes in a child has been closed
            while True:
                time.sleep(1)
        os.read(read, 1)
        os.close(read)
        os.close(write)
        return pid

    server = DeskServer()
    server.jobs["fork"] = forks
    with flipcall.Server(server, path):
        say("serves")  # type: ignore[name-defined]  # noqa: F821
        hear()  # type: ignore[name-defined]  # noqa: F821


def test_a_servers_child_does_not_outlive_its_death(
    connect: Callable[..., Desk], path: str, serve: Callable[..., Any]
) -> None:
    """A forked child of a killed server keeps neither its clients waiting nor its name taken."""
    from flipcall.conformance.services import DeskServer

    with child(serving, path) as server:
        server.expect("serves")
        desk = connect(Desk)
        grandchild = desk.run("fork")
        try:
            server.kill()
            with pytest.raises(flipcall.PeerDiedError) as info:
                flipcall.with_options(desk, timeout=5.0).add(1)
            assert info.value.pid == server.pid
            serve(DeskServer())
            assert connect(Desk).add(1) == 11
        finally:
            os.kill(grandchild, signal.SIGKILL)
