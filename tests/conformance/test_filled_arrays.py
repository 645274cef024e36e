"""filled() for numpy parameters: fill gets an array of the window."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flipcall
from tests.conformance.plain import WINDOW
from tests.conformance.shelf import place_in_window

np = pytest.importorskip("numpy", reason="numpy is in flipcall[test]")
npt = pytest.importorskip("numpy.typing")

Doubles = npt.NDArray[np.float64]


class Arrays(flipcall.Service):
    """Arrays alone, and in company."""

    def same(self, a: np.ndarray) -> np.ndarray: ...
    def double(self, a: Doubles) -> Doubles: ...
    def both(self, data: bytes, a: Doubles, b: np.ndarray) -> list[str]: ...
    def octets(self, data: bytes) -> bytes: ...


class ArraysServer(Arrays):
    def same(self, a: Any) -> Any:
        return a

    def double(self, a: Any) -> Any:
        return 2 * a

    def both(self, data: bytes, a: Any, b: Any) -> list[str]:
        return [data.decode(), f"{a.dtype}{a.tolist()}", f"{b.dtype}{b.tolist()}"]

    def octets(self, data: bytes) -> bytes:
        return data


@pytest.fixture
def arrays(serve: Callable[..., Any], connect: Callable[..., Any]) -> Any:
    """A client of it with one channel; messages of several windows."""
    serve(ArraysServer(), message_max=4 * WINDOW)
    return connect(Arrays, message_max=4 * WINDOW, max_channels=1)


def count(array: Any) -> None:
    """0, 1, 2, … in the order of the elements."""
    array[...] = np.arange(array.size).reshape(array.shape)


@pytest.mark.parametrize("dtype", ["<i4", ">u2", np.float64, np.dtype("M8[s]"), "S5", "c16", "b1"], ids=str)
@pytest.mark.parametrize("shape", [3, (), (0, 4), (2, 3, 4), (100, 100)], ids=str)
def test_what_was_written_arrives(arrays: Any, shape: Any, dtype: Any) -> None:
    """Of every shape and type, in the window and beyond it; what a fill returns means nothing."""
    seen: list[Any] = []

    def fill(array: Any) -> Any:
        seen.append((array.shape, array.dtype, array.flags.writeable))
        array[...] = array.dtype.type(7) if array.dtype.kind not in "SM" else array.dtype.type("20")
        return array

    back = arrays.same(flipcall.filled(shape, fill, dtype))
    expected = np.zeros(shape, dtype)
    fill(expected)
    assert seen[0] == (expected.shape, expected.dtype, True)
    assert (back.shape, back.dtype, back.tobytes()) == (expected.shape, expected.dtype, expected.tobytes())


def test_computed_where_it_lies(arrays: Any, transport: str) -> None:
    """With numpy's `out`, in the window."""
    x, places = np.arange(12.0).reshape(3, 4), []

    def fill(array: Any) -> Any:
        places.append(place_in_window(array.data))
        return np.multiply(x, 10, out=array)

    assert (arrays.double(flipcall.filled((3, 4), fill, np.float64)) == 20 * x).all()
    assert (places[0] is not None) == (transport == "window")


def test_in_company(arrays: Any) -> None:
    """Behind bytes that leave it at an odd address, and beside arrays and bytes that are there already."""
    a, b = flipcall.filled(2, count, np.float64), flipcall.filled((2, 1), count, np.dtype(">i4"))
    assert arrays.both(b"odd", a, b) == ["odd", "float64[0.0, 1.0]", ">i4[[0], [1]]"]
    data = flipcall.filled(1, lambda place: place.__setitem__(0, 33))
    assert arrays.both(data, np.ones(1), b=b) == ["!", "float64[1.0]", ">i4[[0], [1]]"]


def test_the_type_is_the_parameters(arrays: Any) -> None:
    """Other elements than the annotation's are a TypeError, as is a place of bytes; fill is not called."""

    def never(array: Any) -> None:
        pytest.fail("called")

    for wrong in (flipcall.filled(3, never, np.float32), flipcall.filled(8, never)):
        with pytest.raises(TypeError, match="Expected"):
            arrays.double(wrong)
    assert (arrays.double(flipcall.filled(3, count, np.float64)) == [0, 2, 4]).all()
    assert arrays.octets(flipcall.filled(2, count, "<u2")) == b"\0\0\1\0"  # as of any array: its bytes


@pytest.mark.parametrize("dtype", [object, "V5", "i4,f8", np.str_, np.bytes_], ids=str)
def test_elements_that_cannot_be_sent(dtype: Any) -> None:
    """Objects, structures, elements of size zero: a TypeError at once."""
    with pytest.raises(TypeError, match="cannot be sent"):
        flipcall.filled(3, count, dtype)


def test_shapes_that_there_are_not() -> None:
    """Negative ones, and those of more bytes than there are: MisuseError; what is no shape: TypeError."""
    for shape in (-1, (3, -1), (-1, -1), (2**40, 2**40)):
        with pytest.raises(flipcall.MisuseError, match="there is no"):
            flipcall.filled(shape, count, np.float64)
    for wrong in ("3", (1.0,), None):
        with pytest.raises(TypeError):
            flipcall.filled(wrong, count, np.float64)


@pytest.mark.parametrize("keep", [lambda a: a, lambda a: a[1:], lambda a: a.T.view("u1")])
def test_an_array_that_is_kept_is_refused(arrays: Any, keep: Callable[[Any], Any]) -> None:
    """MisuseError, and nothing was sent; writing to it later is seen by nobody."""
    kept: list[Any] = []
    with pytest.raises(flipcall.MisuseError, match="outlives"):
        arrays.same(flipcall.filled(3, lambda a: kept.append(keep(a)), np.float64))

    def fill(array: Any) -> None:
        count(array)
        kept[0][...] = 99

    assert (arrays.same(flipcall.filled(3, fill, np.float64)) == [0, 1, 2]).all()


def test_a_fill_that_fails_or_waits(arrays: Any) -> None:
    """What it raises comes out; one that is awaited, though that does not show, is a TypeError."""

    def fail(array: Any) -> None:
        raise KeyError("mine")

    async def later(array: Any) -> None:
        pytest.fail("awaited")

    with pytest.raises(KeyError):
        arrays.same(flipcall.filled(3, fail, np.float64))
    for fill in (later, lambda a: Awaitable()):
        with pytest.raises(TypeError, match="not awaited"):
            arrays.same(flipcall.filled(3, fill, np.float64))
    assert arrays.same(np.ones(2)).tolist() == [1, 1]


class Awaitable:
    """As little as there can be."""

    def __await__(self) -> Any:
        yield
