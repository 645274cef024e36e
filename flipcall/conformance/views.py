"""view() and into(): what is seen, for how long, and that nothing seen outlives its memory."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

import flipcall

from .services import Bulk, BulkServer


@pytest.fixture
def one(serve: Callable[..., Any], connect: Callable[..., Bulk]) -> Bulk:
    """A client of BulkServer with one channel, so that one not given back is missed."""
    serve(BulkServer())
    return flipcall.with_options(connect(Bulk, max_channels=1), timeout=5)


@pytest.mark.parametrize("size", [0, 1, 33, 4096, 60_000])
def test_a_view_is_the_result(one: Bulk, size: int) -> None:
    """Inside the block it has the result's bytes, read-only; the channel is back afterwards, call after call."""
    data = os.urandom(size)
    for _ in range(3):
        with flipcall.view(one.same, data) as seen:
            assert isinstance(seen, memoryview)
            assert seen == data
            assert seen.readonly
        assert one.size(b"abc") == 3


def test_keywords_and_other_kinds(one: Bulk) -> None:
    """Arguments as for the call; a result of any bytes-like type."""
    with flipcall.view(one.glue, b"ab", n=2, c=b"!") as seen:
        assert bytes(seen) == b"abab-!"
    with flipcall.view(one.array, bytearray(b"abc")) as seen:
        assert bytes(seen) == b"cba"
    with flipcall.view(flipcall.with_options(one, timeout=1).view, memoryview(b"abc")) as seen:
        assert bytes(seen) == b"abc"


def test_after_the_block_every_access_raises(one: Bulk) -> None:
    """The view is released: what it showed is the next call's."""
    with flipcall.view(one.same, b"abc") as seen:
        pass
    for access in (lambda: seen[0], lambda: bytes(seen), lambda: seen[:], seen.tobytes):
        with pytest.raises(ValueError, match="released"):
            access()


def test_inside_the_block_the_channel_is_taken(one: Bulk) -> None:
    """A second call waits for another channel, which there is not; what is seen does not change."""
    with flipcall.view(one.same, b"abc") as seen:
        with pytest.raises(flipcall.DeadlineExceeded, match="channels"):
            flipcall.with_options(one, timeout=0.05).size(b"")
        assert bytes(seen) == b"abc"
    assert one.size(b"") == 0


def test_released_slices_may_be_made(one: Bulk) -> None:
    """What is gone by the end of the block has not escaped."""
    with flipcall.view(one.same, b"abcdef") as seen:
        with seen[1:3] as part:
            assert bytes(part) == b"bc"
        half = seen[3:].cast("B")
        del half
    assert one.size(b"abc") == 3


def numpy_of(view: memoryview) -> Any:
    """An array upon it."""
    return pytest.importorskip("numpy").frombuffer(view, "u1")


@pytest.mark.parametrize(
    "keep",
    [lambda v: v[1:], lambda v: v.cast("B"), memoryview, lambda v: v[1:][1:], numpy_of],
    ids=["slice", "cast", "view", "slice of a slice", "array"],
)
def test_an_escaped_part_is_refused(one: Bulk, keep: Callable[[memoryview], Any]) -> None:
    """MisuseError, and the channel is dropped: the next call has another one; the part can still be read."""
    kept = []
    with pytest.raises(flipcall.MisuseError, match="outlives"), flipcall.view(one.same, b"a" * 5000) as seen:
        kept.append(keep(seen))
    assert one.size(b"abc") == 3
    assert set(bytes(kept[0])) <= set(b"a\0")
    assert one.same(b"b" * 5000) == b"b" * 5000
    assert b"b" not in bytes(kept[0])
    one.close()
    gc.collect()
    bytes(kept[0])  # memory that is there
    kept.clear()


def test_an_exception_in_the_block_is_not_hidden(one: Bulk) -> None:
    """It comes out as it is, also when its traceback keeps a slice: the channel is dropped then."""
    with pytest.raises(KeyError), flipcall.view(one.same, b"abc"):
        raise KeyError("mine")
    kept = []

    def fail(seen: memoryview) -> None:
        kept.append(seen[1:])
        raise KeyError("mine")

    with pytest.raises(KeyError), flipcall.view(one.same, b"abc") as seen:
        fail(seen)
    assert len(kept[0]) == 2
    assert one.size(b"abc") == 3


def test_close_in_another_thread(one: Bulk) -> None:
    """The view stays readable until its block ends, which is no error; then the client is closed."""
    with flipcall.view(one.same, b"abc" * 1000) as seen:
        closer = threading.Thread(target=one.close)
        closer.start()
        closer.join()
        assert len(bytes(seen)) == 3000
    with pytest.raises(flipcall.ClosedError):
        one.size(b"")
    with pytest.raises(ValueError, match="released"):
        seen[0]


def test_a_server_that_stops_meanwhile(
    serve: Callable[..., flipcall.Server], connect: Callable[..., Bulk]
) -> None:
    """What has been answered can be read; the next call says that the server is gone."""
    server = serve(BulkServer())
    client = connect(Bulk)
    with flipcall.view(client.same, b"abc") as seen:
        server.stop()
        assert bytes(seen) == b"abc"
    with pytest.raises((flipcall.ClosedError, flipcall.PeerDiedError, OSError)):
        client.size(b"")


def test_errors_of_the_call(one: Bulk) -> None:
    """They are raised on entering, and the channel is back."""
    with pytest.raises((TypeError, flipcall.CallError)), flipcall.view(one.strange, "text"):
        pytest.fail("entered")
    with pytest.raises(TypeError), flipcall.view(one.same, "text"):  # type: ignore[arg-type]
        pytest.fail("entered")
    with pytest.raises(TypeError), flipcall.view(one.same):  # type: ignore[call-arg]
        pytest.fail("entered")
    assert one.size(b"abc") == 3


def test_what_has_no_view(one: Bulk) -> None:
    """Only calls of a client that have bytes for a result."""
    for call in (one.size, len, BulkServer().same, None):
        with pytest.raises(flipcall.MisuseError):
            flipcall.view(call, b"")  # type: ignore[arg-type]
        with pytest.raises(flipcall.MisuseError):
            flipcall.into(bytearray(1), call, b"")  # type: ignore[arg-type]
    twice = flipcall.view(one.same, b"abc")
    with twice, pytest.raises(flipcall.MisuseError, match="once"), twice:
        pass
    assert one.size(b"abc") == 3


# ---- into() -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 33, 60_000])
def test_into_a_buffer(one: Bulk, size: int) -> None:
    """Its beginning is the result, the rest is as it was."""
    data = os.urandom(size)
    buffer = bytearray(b"\xff" * 60_001)
    assert flipcall.into(buffer, one.same, data) == size
    assert buffer == data + b"\xff" * (60_001 - size)
    if size:
        exact = memoryview(bytearray(size))
        assert flipcall.into(exact, one.same, data) == size
        assert exact == data


def test_into_any_writable_buffer(one: Bulk) -> None:
    """Of any item size; a read-only one or one with holes is a TypeError before anything is sent."""
    import array

    numbers = array.array("I", [7, 7, 7])
    assert flipcall.into(numbers, one.same, bytes(8)) == 8
    assert list(numbers) == [0, 0, 7]
    for wrong in (b"bytes", "text", memoryview(bytearray(9))[::2], None):
        with pytest.raises(TypeError):
            flipcall.into(wrong, one.same, b"")


def test_into_a_buffer_that_is_too_small(one: Bulk) -> None:
    """MisuseError with both sizes; the buffer is as it was, and the channel goes on."""
    buffer = bytearray(b"xyz")
    with pytest.raises(flipcall.MisuseError, match=r"4.*3"):
        flipcall.into(buffer, one.same, b"abcd")
    with pytest.raises(flipcall.MisuseError, match=r"1.*0"):
        flipcall.into(bytearray(), one.same, b"a")
    assert buffer == b"xyz"
    assert flipcall.into(buffer, one.same, b"abc") == 3
    assert buffer == b"abc"


# ---- replies larger than the window -----------------------------------------------------------------------------


@pytest.fixture
def large(serve: Callable[..., Any], connect: Callable[..., Bulk]) -> Bulk:
    """A client whose messages may have a megabyte, in a small window, over one channel."""
    serve(BulkServer(), message_max=1 << 20)
    return connect(Bulk, message_max=1 << 20, max_channels=1)


def test_a_view_of_what_came_in_parts(large: Bulk) -> None:
    """It is gathered in private memory, and seen like any other; what escapes of it is refused all the same."""
    data = os.urandom(500_000)
    for _ in range(2):
        with flipcall.view(large.same, data) as seen:
            assert seen == data
    kept = []
    with pytest.raises(flipcall.MisuseError, match="outlives"), flipcall.view(large.same, data) as seen:
        kept.append(seen[1:])
    assert kept[0] == data[1:]
    assert large.same(data) == data


def test_into_a_buffer_in_parts(large: Bulk) -> None:
    """Part by part into its place; a buffer too small is refused, and the rest of the reply called off."""
    data = os.urandom(500_000)
    buffer = bytearray(500_001)
    assert flipcall.into(buffer, large.same, data) == 500_000
    assert buffer == data + b"\0"
    with pytest.raises(flipcall.MisuseError, match=r"500000.*10"):
        flipcall.into(bytearray(10), large.same, data)
    assert large.array(bytearray(data)) == bytearray(reversed(data))
