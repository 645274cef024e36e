"""Bulk bytes: what a parameter or result annotated bytes, bytearray or memoryview does."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import array
import mmap
from collections.abc import Callable
from typing import Any

import pytest

import flipcall

from .services import Bulk

NORESERVE = 0x4000  # MAP_NORESERVE, linux/mman.h; not in Python before 3.13
MORE = 4464  # bytes beyond the limit: enough for another thousand to be named
SIZES = [0, 1, 31, 32, 33, 4095, 4096, 60_000]


def _both_sizes(message_max: int) -> str:
    """What is said of that and MORE bytes, but for what lies around them: that size, and the limit."""
    return rf"{(message_max + MORE) // 100}\d\d.*{message_max // 1000}\d\d\d"


@pytest.mark.parametrize("size", SIZES)
def test_bytes_come_back(bulk: Bulk, size: int) -> None:
    """Bytes of any size are the same on the other side, each in the type of the signature."""
    data = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    assert bulk.same(data) == data
    assert bulk.array(bytearray(data)) == bytearray(reversed(data))
    view = bulk.view(memoryview(data))
    assert isinstance(view, memoryview)
    assert view == data
    assert bulk.size(data) == size
    assert bulk.make(size) == bytes(size)


def test_handlers_get_the_type_they_asked_for(bulk: Bulk) -> None:
    """The annotation of each bulk parameter says what the handler is given, whatever was sent."""
    assert bulk.kinds(b"1", bytearray(b"22"), memoryview(b"333")) == [
        "bytes 1",
        "bytearray 2",
        "memoryview 3",
    ]
    assert bulk.kinds(b"", bytearray(), memoryview(b"")) == ["bytes 0", "bytearray 0", "memoryview 0"]
    assert bulk.kinds(memoryview(b"1"), b"22", bytearray(b"")) == [  # type: ignore[arg-type]
        "bytes 1",
        "bytearray 2",
        "memoryview 0",
    ]


def test_several_bulk_parameters(bulk: Bulk) -> None:
    """They lie one after the other, between plain ones, with defaults and keywords."""
    assert bulk.glue(b"ab", 2) == b"abab-"
    assert bulk.glue(b"ab", 1, b"") == b"ab"
    assert bulk.glue(b"ab", 1, c=b"!") == b"ab-!"
    assert bulk.glue(n=0, a=b"", b=b"x" * 1000, c=b"y") == b"x" * 1000 + b"y"


@pytest.mark.parametrize(
    "source",
    [
        array.array("I", [1, 2, 3]),
        memoryview(array.array("d", [1.0])),
        array.array("I"),
        memoryview(b"abcdef").cast("B", (2, 3)),
    ],
    ids=["array", "view", "empty array", "matrix"],
)
def test_any_buffer_can_be_sent(bulk: Bulk, source: Any) -> None:
    """An argument may be any contiguous buffer; its bytes are sent."""
    assert bulk.same(source) == bytes(source)


@pytest.mark.parametrize("source", ["text", None, 3, memoryview(b"abcdef")[::2]])
def test_what_is_no_buffer_cannot_be_sent(bulk: Bulk, source: Any) -> None:
    """Anything else is a TypeError at once; the channel goes on."""
    with pytest.raises(TypeError):
        bulk.same(source)
    assert bulk.same(b"a") == b"a"


@pytest.mark.parametrize(
    ("how", "result"),
    [
        ("wide", bytes(array.array("I", [1, 2, 3]))),
        ("array", bytes(array.array("I", [1, 2, 3]))),
        ("matrix", b"abcdef"),
        ("empty", b""),
    ],
)
def test_a_handler_may_return_any_buffer(bulk: Bulk, how: str, result: bytes) -> None:
    """Its bytes arrive, not its items; the channel goes on."""
    assert bulk.strange(how) == result
    assert bulk.same(b"a") == b"a"


@pytest.mark.parametrize("how", ["holes", "text", "none"])
def test_a_handler_that_returns_no_bytes(bulk: Bulk, how: str) -> None:
    """It is answered with an error; the channel goes on."""
    with pytest.raises((TypeError, flipcall.CallError)):
        bulk.strange(how)
    assert bulk.same(b"a") == b"a"


def test_the_largest_request_and_reply(bulk: Bulk, message_max: int) -> None:
    """A reply as large as is allowed is carried, in parts if need be; of requests the body takes its part."""
    assert bulk.make(message_max) == bytes(message_max)
    body = len(b"\x91\xcd\xff\xff")  # [length]
    assert bulk.size(bytes(message_max - body)) == message_max - body


def test_a_request_too_large(bulk: Bulk, message_max: int) -> None:
    """One byte too many is RESOURCE_EXHAUSTED with both sizes, and the channel goes on."""
    with pytest.raises(flipcall.CallError, match=r"\d{5}.*\d{5}") as caught:
        bulk.size(bytes(message_max))
    assert caught.value.status is flipcall.Status.RESOURCE_EXHAUSTED
    assert bulk.size(b"abc") == 3


def test_a_request_too_large_for_any_length(bulk: Bulk) -> None:
    """Four gigabytes (untouched: they cost nothing) are refused like anything else that does not fit."""
    with mmap.mmap(-1, 2**32, flags=mmap.MAP_PRIVATE | NORESERVE) as huge:
        status = None
        try:
            bulk.size(huge)  # type: ignore[arg-type]
        except flipcall.CallError as e:
            status = e.status
        assert status is flipcall.Status.RESOURCE_EXHAUSTED
    assert bulk.size(b"abc") == 3


def test_a_body_too_large(echo: Any, message_max: int) -> None:
    """A plain argument that does not fit is refused in the same words."""
    with pytest.raises(flipcall.CallError, match=_both_sizes(message_max)) as caught:
        echo.text("x" * (message_max + MORE))
    assert caught.value.status is flipcall.Status.RESOURCE_EXHAUSTED
    assert echo.text("a") == "a"


def test_a_reply_too_large(bulk: Bulk, message_max: int) -> None:
    """A result one byte too large is RESOURCE_EXHAUSTED with both sizes, and the channel goes on."""
    with pytest.raises(flipcall.CallError, match=r"\d{5}.*\d{5}") as caught:
        bulk.make(message_max + 1)
    assert caught.value.status is flipcall.Status.RESOURCE_EXHAUSTED
    assert bulk.same(b"abc") == b"abc"


def test_a_result_too_large(desk: Any, jobs: dict[str, Callable[[], Any]], message_max: int) -> None:
    """A plain result that does not fit is answered in the same way."""
    jobs["long"] = lambda: "x" * (message_max + MORE)
    with pytest.raises(flipcall.CallError, match=_both_sizes(message_max)) as caught:
        desk.run("long")
    assert caught.value.status is flipcall.Status.RESOURCE_EXHAUSTED
    assert desk.add(1) == 11


def test_a_result_too_large_for_any_length(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """A handler that returns four gigabytes is answered with an error, not with the end of the channel."""

    class Huge(flipcall.Service):
        def huge(self, yes: bool) -> memoryview: ...

    class HugeServer(Huge):
        def huge(self, yes: bool) -> memoryview:
            if not yes:
                return memoryview(b"small")
            return memoryview(mmap.mmap(-1, 2**32, flags=mmap.MAP_PRIVATE | NORESERVE))

    serve(HugeServer())
    client = connect(Huge)
    with pytest.raises(flipcall.CallError) as caught:
        client.huge(True)
    assert caught.value.status is flipcall.Status.RESOURCE_EXHAUSTED
    assert client.huge(False) == b"small"


def test_reply_view(bulk: Bulk) -> None:
    """A handler may fill the reply in place and return a part of it."""
    assert bulk.filled(1000, 1000)[:4] == b"head"
    assert bulk.filled(1000, 3) == b"hea"
    assert bulk.filled(1000, 0) == b""


def test_reply_view_has_the_room_of_a_reply(bulk: Bulk, message_max: int) -> None:
    """As many bytes as a reply carries can be had, one more is MisuseError in the handler."""
    assert len(bulk.filled(message_max, message_max)) == message_max
    with pytest.raises(flipcall.RemoteError, match=str(message_max)) as caught:
        bulk.filled(message_max + 1, 1)
    assert caught.value.type_name.endswith("MisuseError")
    assert bulk.same(b"abc") == b"abc"
