"""The two doors, side by side: what one offers the other offers, too, or here it says why not."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import flipcall
import flipcall.asyncio
from tests.asyncio.conftest import LoopPost, Post, Run, ThreadPost, until
from tests.support import child, is_gone, wait_until

Server = flipcall.asyncio.Server

# Whatever a door of one kind has that the other's has not, or has with another default, and the reason.
DIFFERENT = {
    "connect": {
        "max_channels": "calls at a time: threads are few, tasks are many (8, 64)",
        "interceptors": "the same option, with coroutines",
    },
    "Server": {
        "implementation": "the same, or a factory that is a coroutine",
        "interceptors": "the same, with coroutines",
    },
    "serve": {"implementation": "see Server"},
}


def parameters(door: Callable[..., Any]) -> dict[str, tuple[Any, Any, Any]]:
    """Its parameters: kind, default, and what its annotation says."""
    found = inspect.signature(door).parameters.values()
    return {p.name: (p.kind, p.default, str(p.annotation)) for p in found}


@pytest.mark.parametrize("door", DIFFERENT)
def test_options_of_both_doors(door: str) -> None:
    """An option that one kind gets, the other gets with the same kind, type and default; else it is listed."""
    ours, theirs = (parameters(getattr(d, door)) for d in (flipcall, flipcall.asyncio))
    different = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    assert different == DIFFERENT[door].keys()
    common = [name for name in ours if name in theirs]
    assert common == [name for name in theirs if name in ours], "the same order"


def test_members_of_both_servers() -> None:
    """What can be asked of a server and done with it, by name and parameters."""

    def members(server: type) -> dict[str, Any]:
        found = inspect.getmembers(server, lambda m: callable(m) or isinstance(m, property))
        return {n: parameters(m) if callable(m) else None for n, m in found if not n.startswith("_")}

    assert members(flipcall.Server) == members(flipcall.asyncio.Server)


def test_names_of_both_doors() -> None:
    """flipcall.asyncio has a name of its own for what awaits a client, and shares the rest with flipcall."""
    assert {name for name in flipcall.asyncio.__all__ if name not in flipcall.__all__} == {"Connecting"}
    own = set(flipcall.asyncio.__all__) - {"Connecting"}
    assert own == {"Server", "connect", "into", "serve", "view"}


@pytest.mark.parametrize("switch", ["notify", "swap"])
def test_switches(path: str, switch: str) -> None:
    """A switch hands the CPU to one peer, a loop waits for many: refused at both doors, with the reason."""

    async def main() -> None:
        for door in (lambda: Server(LoopPost(), path, switch=switch), lambda: connect(switch=switch)):
            with pytest.raises(flipcall.MisuseError, match=f"switch {switch} is for threads"):
                door()

    def connect(**options: Any) -> Any:
        return flipcall.asyncio.connect(Post, path, **options)

    asyncio.run(main())


def test_placement(path: str) -> None:
    """So is same-cpu, which would put a loop's thread on the CPU of one of its peers."""

    async def main() -> None:
        policy = flipcall.WaitPolicy.same_cpu()
        for door in (
            lambda: Server(LoopPost(), path, policy=policy),
            lambda: flipcall.asyncio.connect(Post, path, policy=policy),
        ):
            with pytest.raises(flipcall.MisuseError, match="placement same-cpu is for threads"):
                door()

    asyncio.run(main())


def test_futex_by_name(run: Run, path: str) -> None:
    """What a loop uses may be asked for by name, by a client of either kind."""

    async def main() -> None:
        async with (
            Server(LoopPost(), path, switch="futex") as server,
            flipcall.asyncio.connect(Post, path, switch="futex") as post,
        ):
            assert await post.echo(1) == 1
            assert [c.switch for c in server.statistics().channels] == ["futex"]

    run(main)


def test_a_client_that_asks_a_loop_for_another_switch(path: str) -> None:
    """A synchronous one that insists on notify is told which switches there are; same-cpu stays a wish."""

    def asking(path: str) -> None:  # a process of its own: notify leaves a filter behind
        import flipcall
        from tests.asyncio import conftest

        try:
            flipcall.connect(conftest.PlainPost, path, switch="notify")
        except flipcall.CallError as e:
            say(e.status.name, "futex here, notify there" in str(e))  # type: ignore[name-defined]  # noqa: F821
        except flipcall.UnsupportedError:  # this kernel has none
            say("FAILED_PRECONDITION True")  # type: ignore[name-defined]  # noqa: F821
        with flipcall.connect(conftest.PlainPost, path, policy=flipcall.WaitPolicy.same_cpu()) as post:
            say(post.echo(1))  # type: ignore[name-defined]  # noqa: F821

    async def main() -> None:
        async with Server(LoopPost(), path):
            with child(asking, path) as process:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(None, process.expect, "FAILED_PRECONDITION True")
                await loop.run_in_executor(None, process.expect, "1")

    asyncio.run(main())


def test_listen(run: Run, path: str) -> None:
    """listen() makes the socket, a client waits for start(); a server that never starts takes it away again."""

    async def main() -> None:
        server = Server(LoopPost(), path)
        server.listen()
        server.listen()
        connecting = asyncio.ensure_future(_connected(path))
        await until(lambda: os.path.exists(path))
        await server.start()
        post = await connecting
        assert await post.echo(1) == 1
        post.close()
        await server.stop()
        with pytest.raises(flipcall.MisuseError):
            server.listen()
        never = Server(LoopPost(), path)
        never.listen()
        await never.stop()
        assert not os.path.exists(path)

    run(main)


async def _connected(path: str) -> Post:
    return await flipcall.asyncio.connect(Post, path)


def test_no_server_is_sent() -> None:
    """Pickling one is refused with what to do instead, whichever kind it is."""

    async def main() -> None:
        for server in (Server(LoopPost(), "/nowhere"), flipcall.Server(ThreadPost(), "/nowhere")):
            with pytest.raises(flipcall.MisuseError, match="workers"):
                pickle.dumps(server)

    asyncio.run(main())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_parent_that_is_gone(path: str, workers: int) -> None:
    """A server in a loop that shall stop with its parent ends when that does, and removes its socket."""

    def parent(path: str, workers: str) -> None:
        import subprocess
        import sys

        code = (
            "import asyncio, flipcall.asyncio\n"
            "from tests.asyncio.programs import LoopStaff\n"
            "if __name__ == '__main__':\n"
            f"    asyncio.run(flipcall.asyncio.serve(LoopStaff(), {path!r}, stop_with_parent=True,"
            f" workers={workers}, start_method='fork'))\n"
        )
        subprocess.Popen([sys.executable, "-c", code])
        hear()  # type: ignore[name-defined]  # noqa: F821

    with child(parent, path, workers) as process:
        wait_until(lambda: os.path.exists(path))
        with flipcall.connect(Staff, path) as staff:
            pid = staff.pid()
            process.kill()
            wait_until(lambda: not os.path.exists(path))
            wait_until(lambda: is_gone(pid))


class Threads:
    """A place for another class of the same name."""

    class Staff(flipcall.Service):
        """tests.asyncio.programs.Staff, for threads; the rest of it is not called."""

        def pid(self) -> int:
            raise NotImplementedError


Staff = Threads.Staff


def test_a_parent_that_was_gone_before(run: Run, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told at start(), and leaves no socket behind; start() after a fork between the two, too."""

    async def main() -> None:
        server = Server(LoopPost(), path, stop_with_parent=True)
        monkeypatch.setattr(os, "getppid", lambda: 1)
        with pytest.raises(flipcall.MisuseError, match="parent process has ended"):
            await server.start()
        assert not os.path.exists(path)
        await server.stop()

    run(main)
