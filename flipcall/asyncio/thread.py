"""Work that blocks, done beside the loop: shaking hands waits for the other process, for seconds if it has to."""

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar


class Closable(Protocol):
    """What a result must be, for the case that nobody is there to take it."""

    def close(self) -> None: ...


R = TypeVar("R", bound=Closable)


def in_thread(
    loop: asyncio.AbstractEventLoop,
    name: str,
    work: Callable[[], R],
    done: Callable[[R], None],
    failed: Callable[[BaseException], None],
) -> None:
    """Call work() in a daemon thread of its own, then `done` or `failed` in the loop; in no loop that has
    ended."""

    def run() -> None:
        try:
            result = work()
        except BaseException as e:
            if not _soon(loop, failed, e):
                try:
                    failed(e)
                except RuntimeError:
                    pass  # it would tell a loop that is closed
            return
        if not _soon(loop, done, result):
            result.close()

    threading.Thread(target=run, name=name, daemon=True).start()


A = TypeVar("A")


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[A], None], argument: A) -> bool:
    try:
        loop.call_soon_threadsafe(call, argument)
    except RuntimeError:  # the loop is closed
        return False
    return True
