"""filled(): what is sent, where it is written, for how long, and that what is kept of the place writes nowhere."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flipcall
from tests import loops
from tests.conformance.plain import WINDOW
from tests.conformance.shelf import (
    MESSAGE,
    ShelfServer,
    channels,
    ones,
    pattern,
    place_in_window,
)

EXHAUSTED = flipcall.Status.RESOURCE_EXHAUSTED


@pytest.fixture(autouse=True)
def _those_of_the_loop(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "loop client" in kind:
        monkeypatch.setattr(flipcall, "view", loops.view)
        monkeypatch.setattr(flipcall, "into", loops.into)


# ---- what is sent -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 31, 4096, 60_000, WINDOW, 3 * WINDOW])
def test_what_was_written_arrives(shelf: Any, size: int) -> None:
    """Of any size, again and again; one object can be passed to many calls."""
    data = os.urandom(size)
    argument = pattern(data)
    for _ in range(3):
        assert shelf.same(argument) == data
    assert shelf.same(b"abc") == b"abc"


near = st.one_of(st.integers(0, 70), st.integers(WINDOW - 200, WINDOW + 70), st.integers(0, MESSAGE // 4))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(near, st.booleans()), min_size=3, max_size=3))
def test_any_parts_of_any_size(shelf: Any, parts: list[tuple[int, bool]]) -> None:
    """Several bulk arguments, some of them filled, at the window's edge and beyond, arrive as bytes would."""
    data = [os.urandom(1) * size for size, _ in parts]
    args = [pattern(d) if later else d for d, (_, later) in zip(data, parts, strict=True)]
    assert shelf.glue(args[0], args[1], 1, args[2]) == b"".join(data)


def test_by_name_and_left_out(shelf: Any) -> None:
    """Arguments as always."""
    assert shelf.glue(a=pattern(b"a"), n=2, b=bytearray(b"bc")) == b"abcabc"
    assert shelf.glue(b"a", pattern(b""), c=pattern(b"d"), n=2) == b"adad"


def test_a_place_is_what_a_file_reads_into(shelf: Any) -> None:
    """A number that fill returns is that of the bytes written; fewer than all is MisuseError, nothing is sent."""
    assert shelf.same(flipcall.filled(5, io.BytesIO(b"hello").readinto)) == b"hello"
    with pytest.raises(flipcall.MisuseError, match="3 of 5"):
        shelf.same(flipcall.filled(5, io.BytesIO(b"hel").readinto))
    assert shelf.same(b"abc") == b"abc"


def test_bytes_too_many_are_refused_before(shelf: Any) -> None:
    """RESOURCE_EXHAUSTED without a call of fill, for a little more than a message has and for much more."""
    for size in (MESSAGE, 2**40):
        with pytest.raises(flipcall.CallError) as caught:
            shelf.same(flipcall.filled(size, lambda place: pytest.fail("called")))
        assert caught.value.status is EXHAUSTED
    assert shelf.same(b"abc") == b"abc"


def test_into_and_view(shelf: Any) -> None:
    """The request is filled in the window, and its reply seen there."""
    with flipcall.view(shelf.same, pattern(b"abc" * 1000)) as seen:
        assert seen == b"abc" * 1000
    buffer = bytearray(3)
    assert flipcall.into(buffer, shelf.same, pattern(b"xyz")) == 3
    assert buffer == b"xyz"


def test_beside_a_descriptor(shelf: Any) -> None:
    """Both arrive; a fill that raises leaves the descriptor its owner's."""
    reader, writer = map(flipcall.Fd, os.pipe())
    with reader, writer:
        with pytest.raises(ZeroDivisionError):
            shelf.write(writer, flipcall.filled(3, lambda place: 1 // 0))
        assert shelf.write(writer, pattern(b"abc")) == 3
        assert os.read(reader.fileno(), 9) == b"abc"


# ---- streams ------------------------------------------------------------------------------------------------


def test_the_argument_of_a_stream(shelf: Any, shelf_server: ShelfServer, transport: str) -> None:
    """It is filled when the first item is asked for, in the window as any other."""
    places: list[int | None] = []

    def fill(place: memoryview) -> None:
        places.append(place_in_window(place))
        ones(place)

    items = shelf.tag(flipcall.filled(4, fill), 3)
    assert places == []
    assert list(items) == [b"11110", b"11111", b"11112"]
    assert places == [shelf_server.prefix_at]
    assert (places[0] is not None) == (transport == "window")
    with pytest.raises(ZeroDivisionError):
        list(shelf.tag(flipcall.filled(3, lambda place: 1 // 0), 1))
    assert list(shelf.tag(pattern(b"x" * 2 * WINDOW), 1)) == [b"x" * 2 * WINDOW + b"0"]


def test_items_of_a_stream(shelf: Any) -> None:
    """They are filled when their turn comes; one that raises ends the call."""
    assert shelf.join(pattern(b"%d" % i) for i in range(10)) == b"0123456789"
    assert shelf.join(iter([pattern(b"a"), b"b", pattern(b"c" * WINDOW)])) == b"ab" + b"c" * WINDOW
    with pytest.raises(ZeroDivisionError):
        shelf.join(iter([b"a", flipcall.filled(3, lambda place: 1 // 0)]))
    assert shelf.same(b"abc") == b"abc"


# ---- the place ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 40_000, WINDOW])
def test_it_is_sent_from_where_it_lies(shelf: Any, transport: str, size: int) -> None:
    """In the window, where the handler sees it; a message that does not fit it, or has none, begins elsewhere."""
    places: list[int | None] = []

    def fill(place: memoryview) -> None:
        assert (type(place), len(place), place.readonly, place.format) == (memoryview, size, False, "B")
        places.append(place_in_window(place))
        ones(place)

    there = shelf.where(flipcall.filled(size, fill))
    assert places == [there]
    assert (there is not None) == (transport == "window" and size < WINDOW)


@pytest.mark.parametrize("size", [0, 3, 2 * WINDOW])
def test_afterwards_every_access_raises(shelf: Any, size: int) -> None:
    """The place is released: what lies there is the next message's."""
    places: list[memoryview] = []
    shelf.same(flipcall.filled(size, lambda place: places.append(place)))
    with pytest.raises(ZeroDivisionError):
        shelf.same(flipcall.filled(size, lambda place: places.append(place) or 1 // 0))
    for place in places:
        for access in (lambda p: p[:], bytes, len, lambda p: p.cast("B")):
            with pytest.raises(ValueError, match="released"):
                access(place)


def array_of(place: memoryview) -> Any:
    """An array upon it."""
    return pytest.importorskip("numpy").frombuffer(place, "u1")


KEEPERS = {
    "slice": lambda p: p[1:],
    "cast": lambda p: p.cast("B"),
    "view": memoryview,
    "slice of a slice": lambda p: p[1:][1:],
    "array": array_of,
    "owner": lambda p: memoryview(p.obj)[-8:],
}


@pytest.mark.parametrize("size", [5000, 2 * WINDOW])
@pytest.mark.parametrize("keep", KEEPERS.values(), ids=list(KEEPERS))
def test_what_is_kept_is_refused(
    shelf: Any, shelf_server: ShelfServer, keep: Callable[[memoryview], Any], size: int
) -> None:
    """MisuseError, and nothing was sent; what was kept can be written to, and no later message shows it."""
    kept: list[Any] = []
    with pytest.raises(flipcall.MisuseError, match="outlives"):
        shelf.same(flipcall.filled(size, lambda place: kept.append(keep(place))))
    assert shelf_server.calls == 0
    ours = memoryview(kept[0])

    def meanwhile(place: memoryview) -> None:
        place[:] = b"2" * len(place)
        ours[:] = b"!" * len(ours)

    assert shelf.same(flipcall.filled(size, meanwhile)) == b"2" * size
    assert bytes(ours) == b"!" * len(ours)
    shelf.close()
    assert bytes(ours) == b"!" * len(ours)


def test_what_is_gone_by_the_end_was_not_kept(shelf: Any) -> None:
    """Slices and views may be made, and used, until fill returns."""

    def fill(place: memoryview) -> None:
        half = place[3:].cast("B")
        half[:] = b"def"
        with place[:3] as first:
            first[:] = b"abc"

    before = channels(shelf)
    assert shelf.same(flipcall.filled(6, fill)) == b"abcdef"
    assert before in ([], channels(shelf))


# ---- misuse -------------------------------------------------------------------------------------------------


def test_what_is_no_argument() -> None:
    """Sizes that there are not, and what cannot be called, are told where they are written."""

    for size in (-1, 2**40 + 1):
        with pytest.raises(flipcall.MisuseError, match=str(size)):
            flipcall.filled(size, ones)
    for wrong in ("3", 3.0, None, b"abc", (3,)):
        with pytest.raises(TypeError):
            flipcall.filled(wrong, ones)  # type: ignore[call-overload]
    for fill in (None, b"abc"):
        with pytest.raises(TypeError, match="fill"):
            flipcall.filled(3, fill)  # type: ignore[arg-type]


def test_only_for_bulk(shelf: Any) -> None:
    """Elsewhere in the arguments it is a TypeError, as it is for a handler's result: the caller is told."""
    for call in (lambda: shelf.plain([pattern(b"a")]), lambda: shelf.glue(b"", b"", pattern(b"a"))):
        with pytest.raises(TypeError, match="Filled"):
            call()
    with pytest.raises((TypeError, flipcall.CallError), match="Filled"):
        shelf.back(3)
    assert shelf.same(b"abc") == b"abc"
