"""Workers: whoever is killed, told to end or overrun, the others serve on, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from operator import gt
from pathlib import Path
from typing import Any

import pytest

import flipcall
from flipcall import handover, workers
from flipcall.stats import Statistics
from tests.faults.programs import LedgerServer, Staff, StaffServer, StillbornServer, own_staff
from tests.support import child, is_gone, stop, wait_until

METHODS = ["spawn", "fork", "forkserver"]
SOON = 1.0  # seconds; the promise is 100 ms

Start = Callable[..., flipcall.Server]

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.usefixtures("no_fork_server"),
]


@pytest.fixture
def transport() -> str:
    """Where it makes no difference to workers, the one that is used most."""
    return "window"


@pytest.fixture(params=METHODS)
def crew(request: pytest.FixtureRequest, serve: Start) -> flipcall.Server:
    """Two workers that share nothing."""
    return serve(StaffServer(), workers=2, start_method=request.param)


@pytest.fixture
def pair(serve: Start) -> flipcall.Server:
    """Two workers, by the quickest start method."""
    return serve(StaffServer(), workers=2, start_method="fork")


def test_connections_are_spread(crew: flipcall.Server, connect: Callable[..., Staff]) -> None:
    """Each worker gets as many channels as the other, and none is served by the dispatcher."""
    clients = [connect(Staff) for _ in range(6)]
    served = [c.pid() for c in clients]
    assert sorted(set(served)) == crew.workers
    assert {served.count(pid) for pid in crew.workers} == {3}
    assert os.getpid() not in served
    assert crew.channels == 6


def test_the_less_busy_worker_is_next(pair: flipcall.Server, connect: Callable[..., Staff]) -> None:
    """After the clients of one worker have left, newcomers go to it."""
    clients = [connect(Staff) for _ in range(6)]
    one = clients[0].pid()
    for client in [c for c in clients if c.pid() == one]:
        client.close()
    wait_until(lambda: pair.channels == 3)
    assert [connect(Staff).pid() for _ in range(3)] == [one] * 3


@pytest.mark.parametrize("transport", ["window", "socket"])
def test_kill_a_worker_while_idle(crew: flipcall.Server, connect: Callable[..., Staff]) -> None:
    """Its clients are told, and served again by their next call; the others do not notice; it is replaced."""
    clients = [connect(Staff) for _ in range(4)]
    victim = clients[0].pid()
    theirs = [c for c in clients if c.pid() == victim]
    others = [c for c in clients if c.pid() != victim]
    os.kill(victim, signal.SIGKILL)
    for client in theirs:
        with pytest.raises(flipcall.PeerDiedError):
            client.pid()
        assert client.pid() != victim
    assert all(c.pid() == others[0].pid() for c in others)
    wait_until(lambda: len(crew.workers) == 2 and victim not in crew.workers)
    newcomer = next(pid for pid in crew.workers if pid != others[0].pid())
    wait_until(lambda: connect(Staff).pid() == newcomer)


@pytest.mark.parametrize("transport", ["window", "socket"])
def test_kill_a_worker_in_a_call(pair: flipcall.Server, connect: Callable[..., Staff], path: str) -> None:
    """The call under way ends with PeerDiedError soon, those of the other worker go on."""
    clients = [connect(Staff) for _ in range(2)]
    victim = clients[0].pid()
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(c.sleep, 0.5, f"{path}.{i}") for i, c in enumerate(clients)]
        wait_until(lambda: all(os.path.exists(f"{path}.{i}") for i in range(2)))
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        assert isinstance(calls[0].exception(), flipcall.PeerDiedError)
        assert time.monotonic() - killed < SOON
        assert calls[1].result() is None


def test_a_worker_that_kills_itself_in_a_call(pair: flipcall.Server, connect: Callable[..., Staff]) -> None:
    """A handler that brings its process down costs its clients a call, again and again, and others nothing."""
    steady = connect(Staff)
    for _ in range(3):
        client = connect(Staff)
        if client.pid() != steady.pid():
            with pytest.raises(flipcall.PeerDiedError):
                client.die()
        assert steady.add(1, 2) == 3
        wait_until(lambda: len(pair.workers) == 2)


def test_kill_a_worker_during_the_handshake(pair: flipcall.Server, path: str) -> None:
    """A connection that was handed over and has said nothing hangs up with its worker; the next is served."""
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
        for sock in silent:
            sock.connect(path)
            sock.settimeout(10)
        wait_until(lambda: pair.channels == 2)
        victim = pair.workers[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: pair.channels == 1 and victim not in pair.workers)
        with flipcall.connect(Staff, path) as staff:
            assert staff.add(1, 2) == 3


def test_a_worker_that_stands_still(pair: flipcall.Server, path: str) -> None:
    """A stopped worker costs one client its connect timeout; whoever comes later is served by the other, also when
    that has more channels. When it runs again it is handed connections again.
    """
    victim = pair.workers[0]
    stop(victim)
    with ExitStack() as stack:
        try:
            missed = 0
            for _ in range(8):
                try:
                    staff = stack.enter_context(flipcall.connect(Staff, path, connect_timeout=2.0))
                except flipcall.DeadlineExceeded:
                    missed += 1
                else:
                    assert staff.pid() != victim
            assert missed <= 1
        finally:
            os.kill(victim, signal.SIGCONT)

        def served_by_it() -> bool:
            return stack.enter_context(flipcall.connect(Staff, path)).pid() == victim

        wait_until(served_by_it)


def test_sigterm_for_a_worker_loses_no_call(serve: Start, path: str, tmp_path: Path) -> None:
    """A worker told to end answers what it has begun, and another takes its place: under load no call fails, and
    none is executed twice, whatever moment the signal came at.
    """
    ledger = tmp_path / "ledger"
    with ledger.open("ab", buffering=0) as file:
        pair = serve(LedgerServer(file.fileno()), workers=2, start_method="fork")
        answered = [0] * 4
        ended = threading.Event()

        def ask(i: int) -> None:
            with flipcall.connect(Staff, path) as staff:
                while not ended.is_set():
                    assert staff.add(answered[i], 1) == answered[i] + 1
                    answered[i] += 1

        with ThreadPoolExecutor(4) as threads:
            asking = [threads.submit(ask, i) for i in range(4)]
            try:
                for _ in range(5):
                    before = list(answered)
                    wait_until(lambda before=before: all(map(gt, answered, before)))  # type: ignore[misc]
                    victim = pair.workers[0]
                    os.kill(victim, signal.SIGTERM)
                    wait_until(lambda victim=victim: is_gone(victim))  # type: ignore[misc]
            finally:
                ended.set()
            assert [a.result(20) for a in asking] == [None] * 4
    assert ledger.stat().st_size == sum(answered)


def test_stop_drains_every_worker(crew: flipcall.Server, connect: Callable[..., Staff], path: str) -> None:
    """stop() answers the calls under way in all workers, and ends them."""
    clients = [connect(Staff) for _ in range(2)]
    pids = crew.workers
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(c.sleep, 0.3, f"{path}.{i}") for i, c in enumerate(clients)]
        wait_until(lambda: all(os.path.exists(f"{path}.{i}") for i in range(2)))
        crew.stop(grace=10.0)
        assert [call.result(1) for call in calls] == [None, None]
    assert all(is_gone(pid) for pid in pids)
    assert crew.workers == []
    assert not os.path.exists(path)


def test_stop_kills_what_does_not_end(serve: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that stands still is killed after the grace."""
    monkeypatch.setattr(workers, "_LETTING_GO_S", 0.2)
    server = serve(StaffServer(), workers=1, start_method="fork")
    (pid,) = server.workers
    stop(pid)
    server.stop(grace=0.0)
    assert is_gone(pid)


@pytest.mark.parametrize("method", METHODS)
def test_the_dispatcher_is_killed(path: str, method: str) -> None:
    """Workers answer what is under way, then end with the process that hands out."""

    def serving(path: str, method: str) -> None:
        import flipcall
        from tests.faults.programs import StaffServer

        server = flipcall.Server(StaffServer(), path, workers=2, start_method=method)  # type: ignore[arg-type]
        server.start()
        say(*server.workers)  # type: ignore[name-defined]  # noqa: F821
        hear()  # type: ignore[name-defined]  # noqa: F821

    with child(serving, path, method) as dispatcher:
        pids = [int(pid) for pid in dispatcher.wait_line().split()]
        with flipcall.connect(Staff, path) as staff, ThreadPoolExecutor(1) as threads:
            call = threads.submit(staff.sleep, 0.3, f"{path}.mark")
            wait_until(lambda: os.path.exists(f"{path}.mark"))
            dispatcher.kill()
            assert call.result(5) is None
        wait_until(lambda: all(is_gone(pid) for pid in pids))


def test_the_program_ends_without_stop(path: str) -> None:
    """A program that returns from main and never stopped its server ends, and its workers with it."""

    def serving(path: str) -> None:
        import flipcall
        from tests.faults.programs import StaffServer

        server = flipcall.Server(StaffServer(), path, workers=2, start_method="spawn")
        server.start()
        say(*server.workers)  # type: ignore[name-defined]  # noqa: F821

    with child(serving, path) as dispatcher:
        pids = [int(pid) for pid in dispatcher.wait_line().split()]
        assert dispatcher.wait() == 0
        wait_until(lambda: all(is_gone(pid) for pid in pids))
        assert not os.path.exists(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_for_all_processes(path: str, number: signal.Signals) -> None:
    """Ctrl-C and a service manager signal dispatcher and workers at once: they drain, and serve() returns."""

    def serving(path: str) -> None:
        import os

        import flipcall
        from tests.faults.programs import StaffServer

        os.setsid()
        say("begins")  # type: ignore[name-defined]  # noqa: F821
        flipcall.serve(StaffServer(), path, workers=2, start_method="fork")
        say("returned")  # type: ignore[name-defined]  # noqa: F821

    with child(serving, path) as dispatcher:
        dispatcher.expect("begins")
        wait_until(lambda: os.path.exists(path))
        with flipcall.connect(Staff, path) as staff, ThreadPoolExecutor(1) as threads:
            call = threads.submit(staff.sleep, 0.3, f"{path}.mark")
            wait_until(lambda: os.path.exists(f"{path}.mark"))
            os.killpg(dispatcher.pid, number)
            assert call.result(5) is None
        dispatcher.expect("returned")
        assert dispatcher.wait() == 0


def test_a_session_stays_with_its_worker(serve: Start, connect: Callable[..., Staff]) -> None:
    """Where each client has its own implementation, all its channels reach the one worker that has it."""
    serve(own_staff, workers=2, start_method="spawn")
    with ThreadPoolExecutor(4) as threads:
        for _ in range(2):
            staff = connect(Staff, max_channels=4)
            together = threading.Barrier(4)

            def meet(staff: Staff = staff, together: threading.Barrier = together) -> tuple[int, int]:
                together.wait()
                staff.sleep(0.1)
                return staff.pid(), staff.calls()

            seen = [f.result() for f in [threads.submit(meet) for _ in range(4)]]
            assert len({pid for pid, _ in seen}) == 1
            assert (
                max(calls for _, calls in seen) == 12
            )  # four times sleep, pid and calls, counted in one place


def test_statistics_of_all(crew: flipcall.Server, connect: Callable[..., Any]) -> None:
    """Statistics tell of all workers together, whichever is asked, and so does the server object."""
    clients = [connect(Staff) for _ in range(4)]
    for client in clients:
        for i in range(5):
            assert client.add(i, 1) == i + 1
    told = [connect(Statistics).read() for _ in range(2)]
    for stats in [*told, crew.statistics()]:
        assert stats.pid == os.getpid()
        assert stats.workers == crew.workers
        assert [(m.name, m.counts.calls) for m in stats.methods] == [("add", 20)]
        assert len(stats.channels) == 4
        assert sum(c.calls for c in stats.channels) == 20


@pytest.mark.parametrize("fault", ["killed", "stopped"])
def test_statistics_without_one(
    pair: flipcall.Server, connect: Callable[..., Any], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies or stands still is missing in the statistics, and keeps nobody from reading them."""
    monkeypatch.setattr(handover, "_SURVEY_S", 0.3)
    clients = [connect(Staff) for _ in range(2)]
    victim, other = (client.pid() for client in clients)
    statistics = next(s for s in (connect(Statistics) for _ in range(2)) if _asked(s) == other)
    if fault == "killed":
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in pair.workers)
    else:
        stop(victim)
    try:
        for stats in (statistics.read(), pair.statistics()):
            assert other in stats.workers
            assert victim not in stats.workers
            assert sum(m.counts.calls for m in stats.methods) == 1
    finally:
        if fault == "stopped":
            os.kill(victim, signal.SIGCONT)
    if fault == "stopped":
        assert pair.statistics().workers == sorted([victim, other])


def _asked(client: Any) -> int:
    """The process that answers this client's first channel."""
    pid: int = client._flipcall.peer_pid
    return pid


def test_many_ask_at_once(pair: flipcall.Server, connect: Callable[..., Any]) -> None:
    """Surveys of several workers at the same time do not mix up, nor do connections that come meanwhile."""
    readers = [connect(Statistics) for _ in range(4)]
    with ThreadPoolExecutor(5) as threads:
        come = threads.submit(lambda: [connect(Staff).pid() for _ in range(20)])
        reads = [threads.submit(lambda r=r: [r.read().workers for _ in range(20)]) for r in readers]
        assert set(come.result()) == set(pair.workers)
        for read in reads:
            assert read.result() == [pair.workers] * 20
    assert pair.channels == 24


def test_workers_that_keep_dying(serve: Start, path: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each death of a young worker makes the next pause longer; the socket stays, and says what is the matter."""
    server = serve(StaffServer(), workers=1, start_method="fork")
    begun = time.monotonic()
    for _ in range(4):
        (pid,) = wait_until(lambda: server.workers)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not server.workers)
    assert time.monotonic() - begun >= 0.1 + 0.2 + 0.4
    with pytest.raises(flipcall.CallError, match="no worker") as info:
        flipcall.connect(Staff, path)
    assert info.value.status is flipcall.Status.UNAVAILABLE
    assert caplog.text.count("SIGKILL") == 4
    wait_until(lambda: server.workers)
    with flipcall.connect(Staff, path) as staff:
        assert staff.add(1, 2) == 3


def test_a_worker_that_cannot_begin(path: str) -> None:
    """What the start method cannot bring into a process, or what fails there, is start()'s error."""
    local = type("Local", (StaffServer,), {})()
    with pytest.raises(flipcall.MisuseError, match="pickle"):
        flipcall.Server(local, path, workers=2).start()
    assert not os.path.exists(path)
    with pytest.raises(flipcall.MisuseError, match="worker"):
        flipcall.Server(StillbornServer(), path, workers=2).start()
    assert not os.path.exists(path)


def test_misuse(path: str) -> None:
    """A number of workers or a start method that cannot be."""
    with pytest.raises(flipcall.MisuseError, match="workers"):
        flipcall.Server(StaffServer(), path, workers=-1)
    with pytest.raises(flipcall.MisuseError, match="start_method"):
        flipcall.Server(StaffServer(), path, workers=1, start_method="thread")  # type: ignore[arg-type]
