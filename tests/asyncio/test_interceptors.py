"""Interceptors as coroutines. What both kinds do is in tests/interceptors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import flipcall
import flipcall.asyncio
from flipcall.asyncio.interceptor import ClientProceed, ServerProceed
from flipcall.interceptor import ClientCall, ServerCall
from flipcall.metadata import forward
from tests.asyncio.conftest import LoopPost, Post, Run, until


def noting(name: str, seen: list[str]) -> Any:
    """An interceptor of either side that lets the loop run, and tells when it is left, and how."""

    async def interceptor(call: Any, proceed: Any) -> Any:
        await asyncio.sleep(0)
        try:
            result = await proceed(call)
        except BaseException as e:
            seen.append(f"{name} {call.method} {type(e).__name__}")
            raise
        seen.append(f"{name} {call.method}")
        return result

    return interceptor


def test_one_that_waits_holds_its_own_call_only(run: Run, path: str) -> None:
    """Calls pass the interceptors of both sides at the same time, each as its own task."""
    gate, came = asyncio.Event(), []

    async def hold(call: ClientCall, proceed: ClientProceed) -> Any:
        call.metadata["n"] = str(call.args[0])
        came.append(call.args[0])
        await gate.wait()
        return await proceed(call)

    async def check(call: ServerCall, proceed: ServerProceed) -> Any:
        assert call.metadata["n"] == str(call.args[0])
        await asyncio.sleep(0)
        assert flipcall.context().metadata == call.metadata
        return await proceed(call) + 100

    async def main() -> None:
        async with (
            flipcall.asyncio.Server(LoopPost(), path, interceptors=[check]),
            flipcall.asyncio.connect(Post, path, interceptors=[hold]) as post,
        ):
            calls = [asyncio.create_task(post.echo(i)) for i in range(20)]
            await until(lambda: len(came) == 20)
            gate.set()
            assert await asyncio.gather(*calls) == list(range(100, 120))

    run(main)


def test_cancelled(run: Run, path: str) -> None:
    """Cancelling a task is seen by the interceptors of both sides, and the handler."""
    seen: list[str] = []
    handler = LoopPost()

    async def main() -> None:
        async with (
            flipcall.asyncio.Server(handler, path, interceptors=[noting("server", seen)]),
            flipcall.asyncio.connect(Post, path, interceptors=[noting("client", seen)]) as post,
        ):
            call = asyncio.create_task(post.wait("a"))
            await until(lambda: handler.entered)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: len(seen) == 2)
            assert seen == ["client wait CancelledError", "server wait CancelledError"]
            assert handler.cancelled == ["a"]
            assert await post.echo(1) == 1

    run(main)


def test_streams(run: Run, path: str) -> None:
    """The result is the iterator, which an interceptor may replace; closing it early closes the handler's."""
    seen: list[str] = []
    closed: list[bool] = []

    class Counting(LoopPost):
        async def count(self, n: int) -> AsyncIterator[int]:
            try:
                for i in range(n):
                    yield i
            finally:
                closed.append(True)

    async def tenfold(call: ClientCall, proceed: ClientProceed) -> Any:
        results = await proceed(call)
        return (10 * x async for x in results) if call.method == "count" else results

    async def main() -> None:
        async with (
            flipcall.asyncio.Server(Counting(), path, interceptors=[noting("server", seen)]),
            flipcall.asyncio.connect(Post, path, interceptors=[tenfold, noting("client", seen)]) as post,
        ):
            post.count(3)  # never asked for an item: never made
            assert [x async for x in post.count(3)] == [0, 10, 20]
            assert seen == ["client count", "server count"]
            endless = post.count(1_000_000)
            assert await anext(endless) == 0
            await endless.aclose()
            await until(lambda: len(closed) == 2)

            async def numbers() -> AsyncIterator[int]:
                for i in range(5):
                    yield i

            assert await post.total(numbers()) == 10
            assert [x async for x in post.doubled(numbers())] == [0, 2, 4, 6, 8]
            assert await post.echo(1) == 1

    run(main)


def test_one_that_only_passes_on_may_be_plain(run: Run, path: str) -> None:
    """What comes next is awaited by the caller, so that forward(), say, is for both kinds."""

    class Telling(LoopPost):
        async def wait(self, name: str) -> str:
            return flipcall.context().metadata["user"]

    def sign(call: ClientCall, proceed: ClientProceed) -> Any:
        call.metadata["user"] = "me"
        return proceed(call)

    async def main() -> None:
        async with (
            flipcall.asyncio.Server(Telling(), path),
            flipcall.asyncio.connect(Post, path, interceptors=[sign, forward("user")]) as post,
        ):
            assert await post.wait("a") == "me"

    run(main)
