"""A server whose workers each have a loop. What all workers have in common is in tests/faults."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

import flipcall
import flipcall.asyncio
from flipcall.stats import Statistics
from tests.asyncio.conftest import LoopPost, until
from tests.asyncio.programs import LoopStaff, Staff, own_staff
from tests.support import child, is_gone, resume, stop, wait_until

connect = flipcall.asyncio.connect

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """In an ordinary loop: which one starts the workers makes no difference to them."""
    asyncio.run(main())


def Server(implementation: Any, path: str) -> flipcall.asyncio.Server:
    """Two workers, by the quickest start method."""
    return flipcall.asyncio.Server(implementation, path, workers=2, start_method="fork")


def test_calls_statistics_and_the_end(path: str) -> None:
    """Spawned, each serves many calls at once; they tell of all together; stop() answers what is under way."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with flipcall.asyncio.Server(LoopStaff(), path, workers=2) as server:
            pids = server.workers
            clients = [await connect(Staff, path) for _ in range(4)]
            assert sorted([await c.pid() for c in clients]) == sorted(2 * pids)
            begun = loop.time()
            await asyncio.gather(*(clients[0].sleep(0.1) for _ in range(30)))
            assert loop.time() - begun < 2

            def read() -> list[Any]:
                with flipcall.connect(Statistics, path) as statistics:
                    return [statistics.read(), server.statistics()]

            for stats in await loop.run_in_executor(None, read):
                assert stats.pid == os.getpid()
                assert stats.workers == pids
                assert [(m.name, m.counts.calls) for m in stats.methods] == [("pid", 4), ("sleep", 30)]
            with pytest.raises(flipcall.MisuseError, match="each worker's"):
                server.health.set("", False)
            last = asyncio.create_task(clients[1].sleep(0.2, f"{path}.mark"))
            await until(lambda: os.path.exists(f"{path}.mark"))
            await server.stop()
            assert await last is None
            assert all(map(is_gone, pids))
            for client in clients:
                client.close()
        assert not os.path.exists(path)

    run(main)


def test_sigterm_for_a_worker_loses_no_call(path: str) -> None:
    """Under load no call fails, whatever moment the signal came at: an idle channel's call goes over another."""

    async def main() -> None:
        answered = [0] * 4
        ended = False

        async def ask(i: int) -> None:
            async with connect(Staff, path) as staff:
                while not ended:
                    assert await staff.add(answered[i], 1) == answered[i] + 1
                    answered[i] += 1

        async with Server(LoopStaff(), path) as server:
            asking = [asyncio.create_task(ask(i)) for i in range(4)]
            for _ in range(3):
                before = list(answered)
                await until(lambda before=before: all(a > b for a, b in zip(answered, before, strict=True)))
                victim = server.workers[0]
                os.kill(victim, signal.SIGTERM)
                await until(lambda victim=victim: is_gone(victim))
            ended = True
            await asyncio.gather(*asking)

    run(main)


def test_kill_a_worker(path: str) -> None:
    """Its client is told, and served again by its next call; it is replaced."""

    async def main() -> None:
        async with Server(LoopStaff(), path) as server, connect(Staff, path) as staff:
            victim = await staff.pid()
            waiting = asyncio.create_task(staff.sleep(30))
            os.kill(victim, signal.SIGKILL)
            with pytest.raises(flipcall.PeerDiedError):
                await waiting
            assert await staff.pid() != victim
            await until(lambda: len(server.workers) == 2 and victim not in server.workers)

    run(main)


def test_a_session_stays_with_its_worker(path: str) -> None:
    """Where each client has its own implementation, all its channels reach the one worker that has it."""

    async def main() -> None:
        async with Server(own_staff, path), connect(Staff, path) as staff:
            await asyncio.gather(*(staff.sleep(0.05) for _ in range(4)))  # four channels
            assert sorted(await asyncio.gather(*(staff.calls() for _ in range(8)))) == list(range(1, 9))

    run(main)


def test_the_dispatcher_is_killed(path: str) -> None:
    """Workers answer what is under way, then end with the process that hands out."""

    def serving(path: str) -> None:
        import asyncio

        import flipcall.asyncio
        from tests.asyncio.programs import LoopStaff

        async def main() -> None:
            server = flipcall.asyncio.Server(LoopStaff(), path, workers=2, start_method="fork")
            await server.serve_forever(ready=lambda: say(*server.workers))  # type: ignore[name-defined]  # noqa: F821

        asyncio.run(main())

    with child(serving, path) as dispatcher:
        pids = [int(pid) for pid in dispatcher.wait_line().split()]
        from tests.faults.programs import Staff

        with flipcall.connect(Staff, path) as staff, ThreadPoolExecutor(1) as threads:
            call = threads.submit(staff.sleep, 0.2, f"{path}.mark")
            wait_until(lambda: os.path.exists(f"{path}.mark"))
            dispatcher.kill()
            assert call.result(5) is None
        wait_until(lambda: all(map(is_gone, pids)))


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_the_dispatcher_stands_still(path: str) -> None:
    """Its worker goes on though it cannot tell how many channels have ended, and tells it in the end."""

    def serving(path: str) -> None:
        import asyncio

        import flipcall.asyncio
        from tests.asyncio.programs import LoopStaff

        async def main() -> None:
            async with flipcall.asyncio.Server(LoopStaff(), path, workers=1, start_method="fork") as server:
                say(*server.workers)  # type: ignore[name-defined]  # noqa: F821
                for channels in (301, 1):
                    while server.channels != channels:
                        await asyncio.sleep(0.001)
                    say(channels)  # type: ignore[name-defined]  # noqa: F821

        asyncio.run(main())

    from tests.faults.programs import Staff

    with child(serving, path) as dispatcher, ExitStack() as stack:
        worker = int(dispatcher.wait_line())
        with flipcall.connect(Staff, path, timeout=10) as staff:
            before = descriptors(worker)
            silent = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(300)]
            for sock in silent:
                sock.connect(path)
            dispatcher.expect("301")
            wait_until(lambda: descriptors(worker) == before + 300)
            stop(dispatcher.pid)
            stack.close()
            wait_until(lambda: descriptors(worker) == before, what="the worker lets go of them")
            assert staff.add(1, 2) == 3
            resume(dispatcher.pid)
            dispatcher.expect("1")


def test_a_signal_for_all_processes(path: str) -> None:
    """Ctrl-C signals dispatcher and workers at once: they drain, and serve() returns."""

    def serving(path: str) -> None:
        import asyncio
        import os

        import flipcall.asyncio
        from tests.asyncio.programs import LoopStaff

        os.setsid()
        ready = lambda: say("serves")  # type: ignore[name-defined]  # noqa: E731, F821
        asyncio.run(flipcall.asyncio.serve(LoopStaff(), path, workers=2, start_method="fork", ready=ready))
        say("returned")  # type: ignore[name-defined]  # noqa: F821

    from tests.faults.programs import Staff

    with child(serving, path) as dispatcher:
        dispatcher.expect("serves")
        with flipcall.connect(Staff, path) as staff, ThreadPoolExecutor(1) as threads:
            call = threads.submit(staff.sleep, 0.2, f"{path}.mark")
            wait_until(lambda: os.path.exists(f"{path}.mark"))
            os.killpg(dispatcher.pid, signal.SIGINT)
            assert call.result(5) is None
        dispatcher.expect("returned")
        assert dispatcher.wait() == 0


def test_start_is_cancelled(path: str) -> None:
    """Nothing is left of a start that its task did not wait for."""

    async def main() -> None:
        server = Server(LoopStaff(), path)
        starting = asyncio.create_task(server.start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert server.workers == []
        assert not os.path.exists(path)

    run(main)


def test_a_worker_that_cannot_begin(path: str) -> None:
    """What cannot be brought into a process is start()'s error."""

    async def main() -> None:
        local = type("Local", (LoopPost,), {})()
        with pytest.raises(flipcall.MisuseError, match="pickle"):
            await flipcall.asyncio.Server(local, path, workers=2).start()
        assert not os.path.exists(path)

    run(main)
