"""view() and into(): bulk results without the copy, or without the memory, that an ordinary call makes.

    with flipcall.view(geo.read, n) as data:           one call; `data` is the reply in the window itself
        crc = zlib.crc32(data)

    enter: a channel is taken, the call made           the channel is this caller's: the server waits, nobody else
      │                                                 can use it, and what it would overwrite is not overwritten
    in the block: data                                 the peer could still change it: copy before you trust
      │
    exit: every view is gone ──► channel to the pool
          one escaped ─────────► MisuseError; the channel is dropped, its memory stays mapped for the view

Python cannot take a memoryview back that somebody has sliced, or made an array of. Rejected: giving the channel
back all the same (the next reply would appear in the old view), and copying on exit (too late: the address is
what was handed out).
"""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, ParamSpec

from .buffers import release
from .errors import MisuseError
from .landing import BORROWED, Into
from .pool import Channel
from .stub import BulkCall

P = ParamSpec("P")
Bytes = bytes | bytearray | memoryview


def view(
    call: Callable[P, Bytes], /, *args: P.args, **kwargs: P.kwargs
) -> AbstractContextManager[memoryview]:
    """Make the call `call(*args, **kwargs)` when entered; its result as a read-only view, inside the block only.

    call: a method of a client whose result is bytes, bytearray or memoryview; not of a client with interceptors,
    which must see the result. Entering raises what the call
    raises. Afterwards every access to the view raises ValueError. Leaving raises MisuseError when a slice of the
    view, or an object made upon it, is still alive (del it, or release() it, inside the block), unless the block
    itself raised. close() of the client in another thread leaves the view readable.

    Raises MisuseError for anything else than such a method.
    """
    return _View(_bulk(call), args, kwargs)


def into(buffer: Any, call: Callable[P, Bytes], /, *args: P.args, **kwargs: P.kwargs) -> int:
    """Make the call, and write its result to the beginning of `buffer`; the number of bytes.

    buffer: anything writable and contiguous. call: as for view(). Raises what the call raises; MisuseError for a
    result larger than the buffer, which is then as it was; TypeError for a buffer that is none.
    """
    size: int = _bulk(call).ask(args, kwargs, Into(buffer)).attachment
    return size


class Seen:
    """A reply's attachment that was left where it is: see landing.Borrowed."""

    def __init__(self, attachment: tuple[Any, memoryview]) -> None:
        holder, self.view = attachment
        self._holder = weakref.ref(holder)

    def released(self) -> bool:
        """Take it back; whether nothing that was made of it is left."""
        release(self.view)  # where an array, say, was made of it, it goes on holding the holder
        return self._holder() is None


class _View(AbstractContextManager[memoryview]):
    """One view. Used once."""

    def __init__(self, call: BulkCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._call = call
        self._given = args, kwargs
        self._channel: Channel | None = None

    def __enter__(self) -> memoryview:
        if self._channel is not None:
            raise entered_again()
        self._channel, reply = self._call.ask_and_hold(*self._given, BORROWED)
        self._seen = Seen(reply.attachment)
        return self._seen.view

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._channel is not None
        if self._seen.released():
            self._call.pool.give(self._channel)
            return
        self._channel.close()
        self._call.pool.mend(self._channel)
        if error is None:
            raise escaped()


def _bulk(call: Any) -> BulkCall:
    if not isinstance(call, BulkCall) or not call.method.bare_result:
        raise no_view(call)
    return call


def no_view(call: Any) -> MisuseError:
    """For what view() and into() are not for."""
    return MisuseError(f"{call!r} is no method of a client, with a result of bytes and without interceptors")


def entered_again() -> MisuseError:
    """For a view that was there already."""
    return MisuseError("a view is entered once")


def escaped() -> MisuseError:
    """For a view that cannot be taken back."""
    return MisuseError("something made of the view outlives its block: the channel is dropped")
