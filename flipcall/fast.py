"""The hot path's two verbs, bound to an endpoint (fast.c says why they are not called through cffi)."""

from collections.abc import Callable
from typing import Any

from . import _fast
from ._core import ffi, lib

_CALL = ffi.addressof(lib, "fc_call")
_REPLY = ffi.addressof(lib, "fc_reply_request")
_BODY: int = lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER


def caller(ep: Any, window: Any) -> Callable[[int, bytes], bytes | int]:
    """Client: fc_call on `ep`. Of a plain reply its body, a private copy; of all else the core's result."""
    return _fast.caller(_address(_CALL), _address(ep), _address(window + _BODY), (ep, window))


def replier(ep: Any, window: Any) -> Callable[[int, bytes], bytes | int]:
    """Server: fc_reply_request on `ep` with status OK, for the method of that number. Of a plain request for the
    same method its body, a private copy; of all else the core's result.
    """
    return _fast.replier(_address(_REPLY), _address(ep), _address(window + _BODY), (ep, window))


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))
