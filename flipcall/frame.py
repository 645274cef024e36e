"""The frame header as Python packs it, for the socket transport; on a window the C core does (core/frame.c)."""

import struct

from ._core import lib

# struct fc_frame of proto/flipcall.h: kind, flags, code, call_id, body_len, timeout_us. A test holds it to the
# compiler's offsets.
HEADER = struct.Struct("=BBHIII")
LENGTH = struct.Struct("=I")  # bytes of header, body and attachment that follow

REQUEST: int = lib.FC_REQUEST
REPLY: int = lib.FC_REPLY
MORE: int = lib.FC_MORE
ITEMS: int = lib.FC_ITEMS
END: int = lib.FC_END
CANCEL: int = lib.FC_CANCEL
STREAM: int = lib.FC_FLAG_STREAM
META: int = lib.FC_FLAG_META
FLAG_FDS: int = lib.FC_FLAG_FDS
FLAGS_SHIFT: int = lib.FC_WHAT_FLAGS_SHIFT  # flags of a request, beside its method's number
TIMEOUT_NONE: int = lib.FC_TIMEOUT_NONE
PREFIX: int = LENGTH.size + HEADER.size


def timeout_us(seconds: float | None) -> int:
    """A timeout as frames carry it, rounded up so that it never fires early; None is FC_TIMEOUT_NONE.

    Raises ValueError for a negative one. Longer than 71 minutes counts as 71 minutes.
    """
    if seconds is None:
        return TIMEOUT_NONE
    if not seconds >= 0:
        raise ValueError(f"a timeout cannot be {seconds}")
    return min(int(min(seconds, 4294.0) * 1e6 + 0.999), TIMEOUT_NONE - 1)


def seconds(timeout: int) -> float | None:
    """The reverse of timeout_us()."""
    return None if timeout == TIMEOUT_NONE else timeout / 1e6
