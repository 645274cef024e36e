"""view() and into() in an event loop: flipcall.views says what they are, and why."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, ParamSpec

from ..landing import BORROWED, Into
from ..views import Bytes, Seen, entered_again, escaped, no_view
from .pool import AnyChannel
from .stub import BulkCall

P = ParamSpec("P")


def view(
    call: Callable[P, Awaitable[Bytes]], /, *args: P.args, **kwargs: P.kwargs
) -> AbstractAsyncContextManager[memoryview]:
    """Make the call when entered; its result as a read-only view, inside the block only: see flipcall.view().

    `async with flipcall.asyncio.view(geo.read, n) as data`. close() of the client leaves the view readable. Raises
    MisuseError as flipcall.view() does.
    """
    return _View(_bulk(call), args, kwargs)


async def into(buffer: Any, call: Callable[P, Awaitable[Bytes]], /, *args: P.args, **kwargs: P.kwargs) -> int:
    """Make the call, and write its result to the beginning of `buffer`; the number of bytes: see flipcall.into().

    Cancelled, or after an error, the buffer may have been written to. Nothing writes to it afterwards.
    """
    size: int = (await _bulk(call).ask(args, kwargs, Into(buffer))).attachment
    return size


class _View(AbstractAsyncContextManager[memoryview]):
    """One view. Used once."""

    def __init__(self, call: BulkCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._call = call
        self._given = args, kwargs
        self._channel: AnyChannel | None = None

    async def __aenter__(self) -> memoryview:
        if self._channel is not None:
            raise entered_again()
        self._channel, reply = await self._call.ask_and_hold(*self._given, BORROWED)
        self._seen = Seen(reply.attachment)
        return self._seen.view

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._channel is not None
        whole = self._seen.released()
        if not whole:
            self._channel.close()
        self._call.pool.mend(self._channel)
        if not whole and error is None:
            raise escaped()


def _bulk(call: Any) -> BulkCall:
    if not isinstance(call, BulkCall) or not call.method.bare_result:
        raise no_view(call)
    return call
