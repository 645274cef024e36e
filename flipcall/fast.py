"""The hot path's builtins, bound to an endpoint (hotpath.h says why they are neither Python nor cffi's)."""

from collections.abc import Callable
from typing import Any

from . import _fast
from ._core import ffi, lib

UNDECODABLE, FAILED, LARGE, BULK = range(4)  # why a request was not answered by serve()
_BODY: int = lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER
_ITEMS: int = (
    lib.FC_FRAME_EARLY | lib.FC_ITEMS << lib.FC_FRAME_KIND_SHIFT
)  # of fc_take: items, and nothing else


def caller(ep: Any, window: Any) -> Callable[[int, bytes], bytes | int]:
    """Client: fc_call on `ep`. Of a plain reply its body, a private copy; of all else the core's result."""
    return _fast.caller(_channel(ep, window, "fc_ask", "fc_call_resume", "fc_call", "fc_call_attached"))


def server(
    ep: Any, window: Any, plain: list[Any], encode: Callable[[Any], bytes]
) -> Callable[[int], int | tuple[int, int, Any]]:
    """Server: serve(request) answers the plain requests on `ep`, from the core's result `request` on, by `plain`:
    at a method's number its dispatch.Way, None for a method that is not plain.

    It gives back the core's result that is no such request; or, control being here, (why, method's number, value)
    of one it has not answered. value: for LARGE the bytes, which do not fit; for BULK a result that is not bytes
    or does not fit; else the exception.
    """
    channel = _channel(ep, window, "fc_answer", "fc_request", "fc_reply_request", "fc_reply_request_attached")
    return _fast.server(len(plain), (channel, plain, encode))


def stream(
    ep: Any, window: Any, encode: Callable[[Any], bytes]
) -> tuple[Callable[[Any], tuple[int, bytes] | bool], Callable[[], bytes | int]]:
    """give(item), take() of the stream under way on `ep`.

    give: fc_publish with the item encoded; True when the peer has it, else the core's result and those bytes.
    take: fc_take; of items that have come a private copy, as one msgpack array, of all else the core's result.
    """
    received = ep.received
    places = _address(ffi.addressof(received, "items_off")), _address(ffi.addressof(received, "items_len"))
    verbs = _verb("fc_publish"), _verb("fc_take")
    return _fast.stream(_address(ep), _address(window), verbs, places, _ITEMS, encode, (ep, window))


def _channel(ep: Any, window: Any, give: str, resume: str, exchange: str, attach: str) -> object:
    verbs = tuple(_verb(name) for name in (give, "fc_glance", resume, exchange, attach))
    return _fast.channel(_address(ep), _address(window + _BODY), verbs, (ep, window))


def _verb(name: str) -> int:
    return _address(ffi.addressof(lib, name))


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))
