"""flipcall.asyncio under anyio's asyncio backend: nothing more is needed, and its scopes cancel calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

import flipcall
import flipcall.asyncio
from tests.asyncio.conftest import LoopPost, PlainPost, Post, ThreadPost, until

Server, connect = flipcall.asyncio.Server, flipcall.asyncio.connect


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    """Run a coroutine function by anyio.run(), on either loop."""
    if request.param:
        pytest.importorskip("uvloop")
    options = {"use_uvloop": request.param}
    return lambda main: anyio.run(main, backend="asyncio", backend_options=options)


Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


def test_a_task_group_of_calls(run: Run, path: str) -> None:
    """Server and client in one loop, the calls and a stream in tasks of a group."""

    async def main() -> None:
        got: list[int] = []

        async def ask(post: Post, i: int) -> None:
            got.append(await post.echo(i))

        async def stream(post: Post) -> None:
            got.extend([x async for x in post.count(3)])

        async with Server(LoopPost(), path), connect(Post, path) as post:
            async with anyio.create_task_group() as group:
                for i in range(100, 200):
                    group.start_soon(ask, post, i)
                group.start_soon(stream, post)
            assert sorted(got) == [0, 1, 2, *range(100, 200)]

    run(main)


def test_move_on_after(run: Run, path: str) -> None:
    """A scope that runs out cancels the call in it: the handler is told, and the client's only channel is free."""

    async def main() -> None:
        server = LoopPost()
        async with Server(server, path) as serving, connect(Post, path, max_channels=1) as post:
            with anyio.move_on_after(0.05) as scope:
                await post.wait("one")
            assert scope.cancelled_caught
            await until(lambda: server.cancelled == ["one"])
            assert await post.echo(1) == 1
            with pytest.raises(TimeoutError):
                with anyio.fail_after(0.05):
                    await post.wait("two")
            assert await post.echo(2) == 2
            assert serving.channels == 1

    run(main)


def test_a_group_that_is_cancelled(run: Run, path: str) -> None:
    """One task's error cancels the calls of the others, in the middle of a stream, too."""

    async def main() -> None:
        server = LoopPost()

        async def endless() -> Any:
            while True:
                yield 1
                await anyio.sleep(0)

        async def fail() -> None:
            await until(lambda: server.entered == ["one"])
            raise ValueError("enough")

        raised: list[BaseException] = []
        async with Server(server, path), connect(Post, path) as post:
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(post.wait, "one")
                    group.start_soon(post.total, endless())
                    group.start_soon(fail)
            except Exception as e:  # an exception group, which Python 3.10 has no name for
                raised.extend(e.exceptions)  # type: ignore[attr-defined]
            assert [type(e) for e in raised] == [ValueError]
            await until(lambda: server.cancelled == ["one"])
            assert await post.echo(1) == 1

    run(main)


def test_a_shielded_call(run: Run, path: str) -> None:
    """A call in a shielded scope is not cancelled with what is around it."""

    async def main() -> None:
        server = LoopPost()
        answers: list[str] = []
        async with Server(server, path), connect(Post, path) as post:

            async def ask() -> None:
                with anyio.CancelScope(shield=True):
                    answers.append(await post.wait("one"))

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await until(lambda: server.entered == ["one"])
                group.cancel_scope.cancel()
                asyncio.get_running_loop().call_later(0.05, server.go["one"].set)
            assert answers == ["one"]
            assert server.cancelled == []

    run(main)


def test_handlers_may_use_anyio(run: Run, path: str) -> None:
    """A handler's own scopes are its own, and a caller that gives up ends what it has started."""

    class Groups(LoopPost):
        async def wait(self, name: str) -> str:
            self.entered.append(name)
            with anyio.move_on_after(0.01):
                await anyio.sleep(30)
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(anyio.sleep, 30 if name == "long" else 0)
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise
            return await anyio.to_thread.run_sync(lambda: name)

    async def main() -> None:
        server = Groups()
        async with Server(server, path), connect(Post, path) as post:
            assert await post.wait("short") == "short"
            with anyio.move_on_after(0.1):
                await post.wait("long")
            await until(lambda: server.cancelled == ["long"])

    run(main)


def test_a_server_is_stopped_by_its_scope(run: Run, path: str) -> None:
    """serve_forever() in a task group serves until the group is cancelled."""

    async def main() -> None:
        ready = anyio.Event()
        server = Server(LoopPost(), path)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: server.serve_forever(ready=ready.set))
            await ready.wait()
            async with connect(Post, path) as post:
                assert await post.echo(1) == 1
            group.cancel_scope.cancel()
        assert not await anyio.Path(path).exists()

    run(main)


def test_trio_takes_a_synchronous_client(path: str) -> None:
    """docs/tutorial.md says how under trio: the call is in a thread, and its timeout ends it."""
    trio = pytest.importorskip("trio")

    async def main() -> None:
        with await trio.to_thread.run_sync(lambda: flipcall.connect(PlainPost, path, timeout=30.0)) as post:
            answers: list[int] = []

            async def ask(i: int) -> None:
                answers.append(await trio.to_thread.run_sync(post.echo, i))

            async with trio.open_nursery() as nursery:
                for i in range(20):
                    nursery.start_soon(ask, i)
            assert sorted(answers) == list(range(20))
            with trio.move_on_after(0.05) as scope:
                await trio.to_thread.run_sync(
                    flipcall.with_options(post, timeout=0.5).wait, "one", abandon_on_cancel=True
                )
            assert scope.cancelled_caught
            assert await trio.to_thread.run_sync(post.echo, 7) == 7

    server = ThreadPost()
    with flipcall.Server(server, path):
        trio.run(main)
        assert server.cancelled == ["one"]
