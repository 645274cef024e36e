"""filled(): an argument that is written where it is sent from, instead of copied there.

    store.put("a", flipcall.filled(n, file.readinto))

Where its bytes lie in the window is known once the rest of the request is encoded (core/frame.c): then a channel
is taken, and `fill` called with that place.

    taken ──► lent to fill ──► every view of it is gone ──► sent from where it lies
                 │ fill raises ──────► the channel goes back; nothing was sent
                 └ some of it is kept ──► MisuseError, or what fill raised; the channel is dropped

Python cannot take a memoryview back that somebody has sliced, or made an array of, and an old view upon the window
would write into a later message. Where there is no such place (a message in parts, a socket, no connection at all)
it is private memory, and everything else is the same. Rejected: a block to write in, `with put.place(n) as view`,
which makes two steps of one call, with a channel held while anything goes on in between.
"""

from __future__ import annotations

import inspect
import operator
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, final, overload

from ._core import ffi
from .buffers import address, fresh, release
from .errors import MisuseError

if TYPE_CHECKING:
    from numpy import dtype as DType
    from numpy import generic
    from numpy.typing import NDArray

    Element = TypeVar("Element", bound=generic)

_LARGEST = 2**40  # bytes: far above what a message carries

# What the parameter wants. A bound, because of several constraints mypy takes the first, whatever is wanted.
Octets = TypeVar("Octets", bound=bytes | bytearray | memoryview)


@overload
def filled(size: int, fill: Callable[[memoryview], int | None], /) -> Octets: ...  # type: ignore[type-var]  # pyright: ignore[reportInvalidTypeVarUse]
@overload
def filled(
    size: int | tuple[int, ...],
    fill: Callable[[NDArray[Element]], object],
    /,
    dtype: type[Element] | DType[Element],
) -> NDArray[Element]: ...
def filled(size: Any, fill: Callable[[Any], object], /, dtype: Any = None) -> Any:
    """An argument of `size` bytes that fill(place) writes when the call is made, in the window: without a copy.

    For a parameter annotated bytes, bytearray or memoryview, and for the items of a stream of them. `place` is a
    writable memoryview of `size` bytes, and every access to it raises ValueError once fill has returned. With
    `dtype`, for a numpy parameter: `size` is the shape, and `place` an array. It is not cleared before, and sent
    whole. fill returns None, or how many bytes it has written, as file.readinto does: a number other than `size`
    is a MisuseError. What it returns for an array means nothing.

    fill runs in the thread that calls, in an event loop the loop's, while its call has a channel; its time counts
    towards the call's timeout. It is called once a call; an interceptor that makes the call again, as Retry does,
    has it called again. What it raises ends the call, and nothing was sent; so does, with MisuseError, a slice or
    an array made of `place` that is still alive when it returns. `place` is private memory for what is larger than
    the window, over a socket, for an item of a stream, and in flipcall.testing.local().

    Raises MisuseError for a size that there is not; TypeError for a fill that cannot be called, and for elements
    that cannot be sent. One may be passed to many calls, by any thread.
    """
    if not callable(fill):
        raise TypeError(f"fill is called with the place to write to; {fill!r} cannot be")
    if dtype is None:
        return Filled(operator.index(size), fill)
    from .ndarray import FilledArray  # needs numpy, which the caller has

    return FilledArray(size, fill, dtype)


class Filled:
    """What filled() returns. Immutable."""

    __slots__ = ("_fill", "size")

    def __init__(self, size: int, fill: Callable[[Any], object]) -> None:
        if not 0 <= size <= _LARGEST:
            raise MisuseError(f"there is no place of {size} bytes")
        self.size = size
        self._fill = fill

    def write(self, place: memoryview) -> None:
        """Have it written. Raises what fill does."""
        written = self._fill(place)
        if written is None:
            return
        if type(written) is not int:
            raise unasked(written, "None or a number of bytes")
        if written != self.size:
            raise MisuseError(f"fill has written {written} of {self.size} bytes")

    def __repr__(self) -> str:
        return f"<{self.size} bytes to be filled>"


@final
class Filling:
    """A request's attachment of which some is Filled: all its parts, one after the other."""

    __slots__ = ("_parts", "_size")

    def __init__(self, parts: Sequence[bytes | memoryview | Filled]) -> None:
        self._parts = parts
        self._size = 0
        for part in parts:
            self._size += _size(part)

    def __len__(self) -> int:
        return self._size

    def private(self) -> bytes:
        """All of it in memory of its own, now. Raises as write() does."""
        made = fresh(self._size)
        self.write(address(made), 0, lambda: None)
        return made

    def write(self, memory: Any, start: int, spoilt: Callable[[], None]) -> None:
        """Write it to memory[start], a char[] of cffi's. `spoilt` is called when a view of that is left then.

        Raises what a part's fill does; MisuseError when a view is left.
        """
        holder = ffi.buffer(memory)  # slices of a memoryview are not counted in it, but all of them hold this
        held = weakref.ref(holder)
        place = memoryview(holder)[start : start + self._size]
        del holder
        try:
            self._write(place)
        except BaseException:
            release(place)
            if held() is not None:  # if only by a frame of the traceback: who knows how long
                spoilt()
            raise
        release(place)
        if held() is not None:
            spoilt()
            raise MisuseError("something made of the place outlives fill(): nothing was sent")

    def _write(self, place: memoryview) -> None:
        at = 0
        for part in self._parts:
            size = _size(part)
            room = place[at : at + size]
            try:
                if isinstance(part, Filled):
                    part.write(room)
                else:
                    room[:] = part
            finally:
                release(room)
            at += size


def _size(part: bytes | memoryview | Filled) -> int:
    return part.size if isinstance(part, Filled) else len(part)


def unasked(result: object, instead: str) -> TypeError:
    """For a fill that returns something else. A coroutine is closed."""
    if inspect.iscoroutine(result):
        result.close()
    return TypeError(f"fill is called, not awaited, and returns {instead}, not {type(result).__name__}")
