"""Memory to receive into: made once, written by the C core, then immutable; and views, let go.

bytes(n) is zeroed memory that nobody has seen yet, and is filled in place before anybody does: what CPython's own
PyBytes_FromStringAndSize(NULL, n) is for. Rejected: a bytearray, which costs one more copy of every large message
to become the bytes that a signature promises. Only who called fresh() may write, before anybody else sees it.
"""

from typing import Any

from ._core import ffi


def fresh(n: int) -> bytes:
    """Memory of n bytes to receive into."""
    return (
        bytes(n) if n > 1 else bytes(bytearray(n))
    )  # the empty one and those of one byte are shared objects


def address(made: bytes) -> Any:
    """Where the C core writes what fresh() made; holds it."""
    return ffi.from_buffer("char[]", made)


def release(view: memoryview) -> None:
    """Release it, unless something was made upon it, which keeps the memory, though not its content."""
    try:
        view.release()
    except BufferError:
        pass
