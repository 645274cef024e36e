"""filled(): a fill that fails, outlasts the call, calls, closes; a server that goes meanwhile; many at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import flipcall
from flipcall._core import ffi, lib
from tests.conformance.plain import WINDOW
from tests.conformance.shelf import Shelf, ShelfServer, channels, ones, pattern

# ---- a fill that fails --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 5, 2 * WINDOW])
@pytest.mark.parametrize("error", [KeyError, flipcall.ClosedError, SystemError])
def test_what_fill_raises_ends_the_call(
    shelf: Any, shelf_server: ShelfServer, size: int, error: type[Exception]
) -> None:
    """It comes out as it is, whatever it is; nothing was sent, and the channel is the one it was."""
    shelf.plain([])
    before = channels(shelf)
    raised: list[int] = []

    def fail(place: memoryview) -> None:
        raised.append(len(place))
        raise error("mine")

    with pytest.raises(error, match="mine"):
        shelf.same(flipcall.filled(size, fail))
    assert raised == [size]
    assert shelf_server.calls == 0
    assert shelf.same(b"abc") == b"abc"
    assert channels(shelf) == before


def test_what_fill_raises_is_not_hidden_by_what_it_keeps(shelf: Any, shelf_server: ShelfServer) -> None:
    """A slice that its traceback holds, or anybody: the channel is dropped, and no later message shows it."""
    kept: list[memoryview] = []

    def fail(place: memoryview) -> None:
        kept.append(place[1:])
        raise KeyError("mine")

    with pytest.raises(KeyError):
        shelf.same(flipcall.filled(5, fail))
    assert shelf_server.calls == 0

    def meanwhile(place: memoryview) -> None:
        place[:] = b"abcde"
        kept[0][:] = b"!!!!"

    assert shelf.same(flipcall.filled(5, meanwhile)) == b"abcde"


def test_the_parts_before_and_behind_are_let_go(shelf: Any) -> None:
    """The second of three that fails, or keeps: the others' places are released all the same."""
    places: list[memoryview] = []
    first = flipcall.filled(3, lambda place: places.append(place))
    with pytest.raises(ZeroDivisionError):
        shelf.glue(first, flipcall.filled(3, lambda place: 1 // 0), 1, b"c")
    with pytest.raises(flipcall.MisuseError):
        shelf.glue(first, flipcall.filled(3, lambda place: places.append(place[1:])), 1, b"c")
    for place in (places[0], places[1]):
        with pytest.raises(ValueError, match="released"):
            place[0]
    assert shelf.glue(b"a", b"b", 1) == b"ab"


@pytest.mark.parametrize("result", [b"abc", True, 1.0, "3"])
def test_a_result_that_is_none(shelf: Any, result: Any) -> None:
    """What is neither None nor a number is a TypeError, and nothing is sent."""
    with pytest.raises(TypeError, match="fill"):
        shelf.same(flipcall.filled(3, lambda place: result))
    assert shelf.same(b"abc") == b"abc"


def test_a_fill_that_waits_to_be_awaited(shelf: Any, shelf_server: ShelfServer) -> None:
    """One that is `async def` is a TypeError, and nothing is sent."""

    async def later(place: memoryview) -> None:
        pytest.fail("awaited")

    with pytest.raises(TypeError, match="not awaited"):
        shelf.same(flipcall.filled(3, later))  # type: ignore[arg-type]
    assert shelf_server.calls == 0
    assert shelf.same(b"abc") == b"abc"


# ---- deadlines, other calls, ends ---------------------------------------------------------------------------


def outlast(seconds: float) -> Callable[[memoryview], None]:
    """A fill that takes a little longer than that."""

    def fill(place: memoryview) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() <= end:
            pass

    return fill


@pytest.mark.parametrize("size", [3, 2 * WINDOW])
def test_a_deadline_that_passes_meanwhile(shelf: Any, shelf_server: ShelfServer, size: int) -> None:
    """DeadlineExceeded when fill has returned, and nothing was sent."""
    shelf.plain([])
    before = channels(shelf)
    with pytest.raises(flipcall.DeadlineExceeded, match="filled"):
        flipcall.with_options(shelf, timeout=0.05).same(flipcall.filled(size, outlast(0.05)))
    assert shelf_server.calls == 0
    assert shelf.same(b"abc") == b"abc"
    assert channels(shelf) == before


def test_its_time_is_the_calls(shelf: Any) -> None:
    """The handler sees what is left."""
    patient = flipcall.with_options(shelf, timeout=1000)
    assert 999 < patient.remaining(flipcall.filled(3, outlast(0.05))) < 999.95
    assert flipcall.with_options(shelf, timeout=None).same(flipcall.filled(3, outlast(0.01)))


def test_a_fill_that_calls(shelf: Any, kind: str) -> None:
    """Its call holds the channel: another one waits for a second channel, which there is not."""
    if "loop client" in kind:
        pytest.skip("in the loop's thread nothing waits: tests/asyncio")
    quick = flipcall.with_options(shelf, timeout=0.05)
    with pytest.raises(flipcall.DeadlineExceeded, match="channels"):
        shelf.same(flipcall.filled(3, lambda place: quick.plain([])))
    assert shelf.same(b"abc") == b"abc"


def test_a_fill_that_closes_the_client(shelf: Any, shelf_server: ShelfServer, kind: str) -> None:
    """The place stays memory until fill returns; the call then says that the client is closed."""
    close = shelf._client.close if "loop client" in kind else shelf.close

    def fill(place: memoryview) -> None:
        close()
        ones(place)
        assert bytes(place) == b"1" * 5000

    with pytest.raises(flipcall.ClosedError):
        shelf.same(flipcall.filled(5000, fill))
    assert shelf_server.calls == 0


def test_a_server_that_goes_meanwhile(
    shelf: Any, serve: Callable[..., Any], connect: Callable[..., Any], path: str, transport: str
) -> None:
    """The call is made over a channel of the next server there; what was written is not written again."""
    if transport != "window":
        pytest.skip("a socket does not tell whether a request was read")
    old, new = ShelfServer(), ShelfServer()
    going = serve(old, f"{path}2")
    client = connect(Shelf, f"{path}2", max_channels=1)
    assert client.same(b"abc") == b"abc"
    written: list[int] = []

    def fill(place: memoryview) -> None:
        written.append(len(place))
        ones(place)
        change = threading.Thread(target=lambda: (going.stop(), serve(new, f"{path}2")))
        change.start()
        change.join()

    assert client.same(flipcall.filled(5000, fill)) == b"1" * 5000
    assert (written, old.calls, new.calls) == ([5000], 1, 1)


def test_a_server_that_scribbles_meanwhile(shelf: Any, transport: str) -> None:
    """It can change what is in the window, and only that: what is written after the fill is not its to choose."""
    if transport != "window":
        pytest.skip("a server reaches nothing of this process")
    shelf.plain([])
    channel = channels(shelf)[0]
    endpoint = getattr(channel, "endpoint", None) or channel.window.endpoint

    def fill(place: memoryview) -> None:
        ones(place)
        ffi.memmove(endpoint.core()[1] + lib.FC_PACKET_HEADER, b"!" * endpoint.data_cap, endpoint.data_cap)

    assert shelf.same(flipcall.filled(5000, fill)) == b"!" * 5000
    assert shelf.same(pattern(b"abc")) == b"abc"


def test_many_threads(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """Callers that fill at the same time, each over its own channel, with one object or with their own."""
    serve(ShelfServer())
    client = connect(Shelf, max_channels=4)
    common = pattern(b"common" * 1000)

    def calls(n: int) -> bool:
        mine = bytes([n]) * (1000 * n)
        return all(
            client.same(pattern(mine)) == mine and client.same(common) == b"common" * 1000 for _ in range(30)
        )

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(calls, range(8)))
