"""A server in a loop: handlers as tasks, what cancels them, how it ends; clients of both kinds."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

import flipcall
import flipcall.asyncio
from flipcall.asyncio.hold import Hold
from tests.asyncio.conftest import LoopPost, PlainPost, Post, Run, until
from tests.support import child

connect = flipcall.asyncio.connect
Server = flipcall.asyncio.Server


def test_both_sides_in_one_loop(run: Run, path: str) -> None:
    """Client and server may share a loop: calls, large ones, streams each way."""

    async def main() -> None:
        async with Server(LoopPost(), path), connect(Post, path) as post:
            assert await asyncio.gather(*(post.echo(i) for i in range(300))) == list(range(300))
            assert await post.size(bytes(10**6)) == 10**6
            assert [x async for x in post.count(5_000)] == list(range(5_000))

            async def numbers() -> Any:
                for i in range(5_000):
                    yield i

            assert await post.total(numbers()) == sum(range(5_000))
            assert [x async for x in post.doubled(numbers())][-1] == 2 * 4_999

    run(main)


def test_handlers_run_at_the_same_time(run: Run, path: str) -> None:
    """Every call that waits is a task of its own; the others go on."""

    async def main() -> None:
        server = LoopPost()
        async with Server(server, path), connect(Post, path, max_channels=40) as post:
            waits = [asyncio.create_task(post.wait(str(i))) for i in range(30)]
            await until(lambda: len(server.entered) == 30)
            assert await post.echo(1) == 1
            for event in server.go.values():
                event.set()
            assert await asyncio.gather(*waits) == [str(i) for i in range(30)]

    run(main)


@pytest.mark.parametrize("how", ["cancel", "deadline", "close"])
def test_a_caller_that_gives_up(run: Run, path: str, how: str) -> None:
    """Its handler is cancelled, at once, and the channel serves the next call."""

    async def main() -> None:
        server = LoopPost()
        async with Server(server, path):
            post = await connect(Post, path, max_channels=1)
            timeout = 0.1 if how == "deadline" else 30.0
            task = asyncio.create_task(flipcall.with_options(post, timeout=timeout).wait("one"))
            await until(lambda: server.entered)
            if how == "cancel":
                task.cancel()
            elif how == "close":
                post.close()
            (error,) = await asyncio.gather(task, return_exceptions=True)
            kinds = {"cancel": asyncio.CancelledError, "deadline": flipcall.DeadlineExceeded}
            assert isinstance(error, kinds.get(how, flipcall.ClosedError))
            del error, task
            await until(lambda: server.cancelled == ["one"])
            if how != "close":
                assert await post.echo(1) == 1
            post.close()

    run(main)


def calling(path: str) -> None:
    """A synchronous client in a child, which waits."""
    import flipcall
    from tests.asyncio.conftest import PlainPost

    with flipcall.connect(PlainPost, path) as post:
        say(post.echo(5))  # type: ignore[name-defined]  # noqa: F821
        post.wait("one")


def test_a_client_that_is_killed(run: Run, path: str) -> None:
    """A synchronous one, in the middle of its call: the handler is cancelled, the channel given back."""

    async def main() -> None:
        server = LoopPost()
        async with Server(server, path) as serving:
            with child(calling, path) as client:
                await until(lambda: server.entered)
                client.expect("5")
                client.kill()
                await until(lambda: server.cancelled == ["one"])
            await until(lambda: serving.channels == 0)

    run(main)


def test_a_client_that_is_gone_before_its_handler_has_begun(
    run: Run, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop hears of its end in the round in which the handler's task is made: that one is told."""

    async def main() -> None:
        server = LoopPost()
        async with Server(server, path) as serving:
            looks = [False, True, False]  # last to first: at wait() again, at wait(), at echo()

            def over(hold: Hold, loop: asyncio.AbstractEventLoop) -> bool:
                """wait()'s request has come, and is answered in the next round: after the client's death."""
                held = looks.pop()
                if held:
                    client.kill()
                return held

            with monkeypatch.context() as patch:
                patch.setattr(Hold, "over", over)  # before the client's first call
                with child(calling, path) as client:
                    await until(lambda: server.entered and serving.channels == 0)
                    assert not looks
            assert server.cancelled == server.entered == ["one"]

    run(main)


def test_draining(run: Run, path: str) -> None:
    """stop() lets calls under way be answered, refuses others, and ends idle channels at once."""

    async def main() -> None:
        server = LoopPost()
        serving = Server(server, path)
        await serving.start()
        post = await connect(Post, path, max_channels=2)
        task = asyncio.create_task(post.wait("one"))
        await until(lambda: server.entered)
        assert await post.echo(1) == 1
        stopping = asyncio.create_task(serving.stop())
        await until(lambda: serving.channels == 1)
        with pytest.raises((flipcall.ClosedError, OSError)):
            await post.echo(1)
        server.go["one"].set()
        assert await task == "one"
        await stopping
        assert not os.path.exists(path)
        post.close()

    run(main)


def test_stop_cuts_what_stays(run: Run, path: str) -> None:
    """After the grace a handler that still runs is cancelled, and its caller told."""

    async def main() -> None:
        server = LoopPost()
        async with Server(server, path) as serving:
            post = await connect(Post, path)
            task = asyncio.create_task(post.wait("one"))
            await until(lambda: server.entered)
            await serving.stop(grace=0.05)
            assert server.cancelled == ["one"]
            with pytest.raises(flipcall.ClosedError):
                await task
            assert serving.channels == 0
            post.close()

    run(main)


def test_a_factory_and_its_end(run: Run, path: str) -> None:
    """Both may be coroutines, run in the loop; one service a client."""

    async def main() -> None:
        ended: list[Any] = []
        loop = asyncio.get_running_loop()

        class Own(LoopPost):
            async def on_disconnect(self) -> None:  # type: ignore[override]
                await asyncio.sleep(0)
                ended.append(self)

        async def make(peer: flipcall.Peer) -> Own:
            assert asyncio.get_running_loop() is loop
            assert peer.pid == os.getpid()
            await asyncio.sleep(0)
            return Own()

        async with Server(make, path):
            async with connect(Post, path) as one, connect(Post, path) as two:
                assert [await one.echo(1), await two.echo(2)] == [1, 2]
            await until(lambda: len(ended) == 2)
            assert ended[0] is not ended[1]

    run(main)


def test_context_is_the_calls_own(run: Run, path: str) -> None:
    """context() tells of the call a task serves, also after it has suspended, and of none outside."""

    class Who(flipcall.Service):
        async def left(self, pause: float) -> float | None: ...

    class WhoServer(Who):
        async def left(self, pause: float) -> float | None:
            await asyncio.sleep(pause)
            return flipcall.context().remaining()

    async def main() -> None:
        async with Server(WhoServer(), path), connect(Who, path) as who:
            timeouts = [100.0 * (i + 1) for i in range(5)]
            calls = (
                flipcall.with_options(who, timeout=t).left(0.01 * (6 - i)) for i, t in enumerate(timeouts)
            )
            for left, timeout in zip(await asyncio.gather(*calls), timeouts, strict=True):
                assert left is not None
                assert timeout - 50 < left < timeout
            with pytest.raises(flipcall.MisuseError):
                flipcall.context()

    run(main)


def test_whatever_a_coroutine_raises(run: Run, path: str) -> None:
    """GeneratorExit and a CancelledError of its own are answers like any other."""

    class Odd(flipcall.Service):
        async def fails(self, how: str) -> int: ...

    class OddServer(Odd):
        async def fails(self, how: str) -> int:
            raise {"exit": GeneratorExit, "cancelled": asyncio.CancelledError, "system": SystemExit}[how]

    async def main() -> None:
        async with Server(OddServer(), path), connect(Odd, path) as odd:
            for how in ("exit", "cancelled", "system"):
                with pytest.raises(flipcall.CallError) as info:
                    await odd.fails(how)
                assert (info.value.status is flipcall.Status.CANCELLED) == (how == "cancelled")

    run(main)


def test_too_many_channels(run: Run, path: str) -> None:
    """One more than allowed is refused, with the number."""

    async def main() -> None:
        async with Server(LoopPost(), path, max_channels=1), connect(Post, path) as post:
            with pytest.raises(flipcall.CallError, match="all 1 channels") as info:
                await connect(Post, path)
            assert info.value.status is flipcall.Status.RESOURCE_EXHAUSTED
            assert await post.echo(1) == 1

    run(main)


def test_calls_wait_where_there_is_no_room_for_one_more_channel(run: Run, path: str) -> None:
    """Many at once are answered over the channels that the server takes; none is refused."""

    async def main() -> None:
        async with Server(LoopPost(), path, max_channels=2) as server, connect(Post, path) as post:
            many = asyncio.gather(*(post.echo(i) for i in range(100)))
            assert await asyncio.wait_for(many, 30) == list(range(100))
            assert server.channels <= 2

    run(main)


def test_a_synchronous_server_refuses_coroutines(path: str) -> None:
    """It could not await them, and says who can."""
    with pytest.raises(flipcall.MisuseError, match=r"flipcall\.asyncio"):
        flipcall.Server(LoopPost(), path)


def test_serve_until_sigterm(path: str) -> None:
    """serve() drains at SIGTERM and returns."""

    def serving(path: str) -> None:
        import asyncio

        import flipcall.asyncio
        from tests.asyncio.conftest import LoopPost

        say("serves")  # type: ignore[name-defined]  # noqa: F821
        asyncio.run(flipcall.asyncio.serve(LoopPost(), path))
        say("ended")  # type: ignore[name-defined]  # noqa: F821

    with child(serving, path) as server:
        server.expect("serves")
        while not os.path.exists(path):
            pass
        with flipcall.connect(PlainPost, path) as post:
            assert post.echo(3) == 3
            server.signal(signal.SIGTERM)
            server.expect("ended")
            assert server.wait() == 0


def test_a_stream_is_a_call_as_long_as_it_lasts(run: Run, path: str) -> None:
    """With max_calls=1 nothing else is served meanwhile; afterwards it is, and so it is after an error."""

    class Failing(LoopPost):
        async def echo(self, x: int) -> int:
            return 1 // x

        def size(self, data: bytes) -> Any:  # a plain one counts, too
            return len(data)

        async def count(self, n: int) -> AsyncIterator[int]:
            try:
                for i in range(n):
                    yield i
            finally:
                ended.append(n)

    ended: list[int] = []

    async def main() -> None:
        async with Server(Failing(), path, max_calls=1), connect(Post, path) as post:
            numbers = post.count(1_000_000)
            assert await anext(numbers) == 0
            for call in (post.echo, post.size):
                with pytest.raises(flipcall.CallError, match="1 calls") as info:
                    await call(b"abc" if call == post.size else 1)
                assert info.value.status is flipcall.Status.RESOURCE_EXHAUSTED
            await numbers.aclose()
            await until(lambda: ended)
            with pytest.raises(ZeroDivisionError):
                await post.echo(0)
            assert await post.size(b"abc") == 3
            assert [x async for x in post.count(3)] == [0, 1, 2]

    run(main)
