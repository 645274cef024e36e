"""Memory to receive into: made once, written by the C core, then immutable.

bytes(n) is zeroed memory that nobody has seen yet, and is filled in place before anybody does: what CPython's own
PyBytes_FromStringAndSize(NULL, n) is for. Rejected: a bytearray, which costs one more copy of every large message
to become the bytes that a signature promises. Only fill() may write, and only what fresh() has just made.
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
