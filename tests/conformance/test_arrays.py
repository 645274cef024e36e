"""numpy arrays as bulk parameters and results: type, shape and elements come back; nothing else gets through."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import flipcall
from tests.support import REPOSITORY

np = pytest.importorskip("numpy", reason="numpy is in flipcall[test]")
npt = pytest.importorskip("numpy.typing")

INVALID = flipcall.Status.INVALID_ARGUMENT
Doubles = npt.NDArray[np.float64]


class Arrays(flipcall.Service):
    """Any array, arrays of one type, and beside other things."""

    def same(self, a: np.ndarray) -> np.ndarray: ...
    def double(self, a: Doubles) -> Doubles: ...
    def real(self, a: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]: ...
    def both(self, a: Doubles, n: int, data: bytes, b: npt.NDArray[np.int32]) -> list[str]: ...
    def strange(self, how: str) -> np.ndarray: ...


class ArraysServer(Arrays):
    def same(self, a: Any) -> Any:
        return a

    def double(self, a: Any) -> Any:
        a *= 2  # its own: writable
        return a

    def real(self, a: Any) -> Any:
        return a.T

    def both(self, a: Any, n: int, data: bytes, b: Any) -> list[str]:
        return [f"{a.dtype}{a.shape}", str(n), data.decode(), f"{b.dtype}{b.shape}{b.sum()}"]

    def strange(self, how: str) -> Any:
        return {"list": [1, 2], "object": np.array([None]), "masked": np.ma.array([1, 2], mask=[0, 1])}[how]


@pytest.fixture
def arrays(serve: Callable[..., Any], connect: Callable[..., Any]) -> Any:
    """A client of ArraysServer."""
    serve(ArraysServer())
    return connect(Arrays)


MANY = np.arange(24, dtype="<i4").reshape(2, 3, 4)


@pytest.mark.parametrize(
    "array",
    [
        MANY, MANY.T, MANY[:, ::2], MANY[::-1], np.asfortranarray(MANY), np.broadcast_to(np.int32(7), (3, 4)),
        np.array(5.0), np.zeros((0, 4)), np.zeros((3, 0, 2), "i1"), np.array([], bool), np.ones(1, "f2"),
        np.array([1, 2], ">u2"), np.array([1 + 2j]), np.array([True, False]), np.array(["ab", "c"]),
        np.array([b"ab", b"c"]), np.array(["2026-11-25"], "M8[D]"), np.array([5], "m8[25us]"),
        np.array([1.5], np.longdouble), np.frombuffer(b"abc", "u1"), np.zeros(1024),
    ],
    ids=lambda a: f"{a.dtype.str}{a.shape}{'' if a.flags.c_contiguous else 'holes'}",
)  # fmt: skip
def test_an_array_comes_back(arrays: Any, array: Any) -> None:
    """Of every type and shape, contiguous or not: the same elements, in an array of one's own."""
    back = arrays.same(array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable
    assert back.flags.c_contiguous
    assert not np.shares_memory(back, array)


def test_the_annotation_names_the_elements(arrays: Any) -> None:
    """A handler gets what its signature says, abstract types take any below them; others are a TypeError."""
    assert (arrays.double(np.ones((2, 2))) == 2).all()
    assert (arrays.double(np.ones(2, ">f8")) == 2).all()
    assert arrays.real(np.zeros((2, 3), np.float16)).shape == (3, 2)
    for wrong in (np.ones(2, np.float32), np.ones(2, int), [1.0], 1.0, None, b"12345678", np.float64(1)):
        with pytest.raises(TypeError, match="Expected"):
            arrays.double(wrong)
    with pytest.raises(TypeError, match="floating"):
        arrays.real(np.ones(2, int))
    assert (arrays.double(np.ones(1)) == 2).all()


def test_beside_other_bulk(arrays: Any) -> None:
    """Several bulk parameters of all kinds lie one after the other."""
    said = arrays.both(np.zeros((2, 3)), 7, b"bytes", b=np.arange(5, dtype=np.int32))
    assert said == ["float64(2, 3)", "7", "bytes", "int32(5,)10"]


@pytest.mark.parametrize(
    "array",
    [
        np.array([None, {}]), np.zeros(2, "i4,f8"), np.zeros(3, "V5"),
        np.ma.array([1], mask=[1]), np.zeros(1).view(np.recarray),
    ],
    ids=["objects", "structure", "void", "masked", "subclass"],
)  # fmt: skip
def test_what_cannot_be_sent(arrays: Any, array: Any) -> None:
    """Objects, structures, what is more than its elements: a TypeError at once."""
    with pytest.raises(TypeError):
        arrays.same(array)


@pytest.mark.parametrize("how", ["list", "object", "masked"])
def test_a_handler_that_returns_no_array(arrays: Any, how: str) -> None:
    """It is answered with an error; the channel goes on."""
    with pytest.raises((TypeError, flipcall.CallError)):
        arrays.strange(how)
    assert arrays.same(MANY).shape == MANY.shape


@pytest.mark.parametrize(
    ("annotation", "ok"),
    [
        (npt.NDArray[np.object_], False), (npt.NDArray[np.void], False),
        (npt.NDArray[np.float64 | np.int32], False), (npt.NDArray[np.generic], True),
        (np.ndarray[tuple[int, int], np.dtype[np.uint8]], True),
    ],
)  # fmt: skip
def test_signatures(annotation: Any, ok: bool) -> None:
    """What could never be sent is refused with the class, not with the call."""

    def f(self: Any, a: Any) -> None: ...

    f.__annotations__ = {"a": annotation, "return": None}
    kind = type("Odd", (flipcall.Service,), {"f": f})
    if ok:
        flipcall.Server(kind(), "/nowhere")
    else:
        with pytest.raises(flipcall.MisuseError, match=r"Odd\.f"):
            flipcall.Server(kind(), "/nowhere")


def test_the_element_type_is_part_of_the_signature() -> None:
    """Two sides that differ in it are told when they connect."""
    from flipcall.method import Method

    def fingerprint(annotation: Any) -> str:
        def f(self: Any, a: Any) -> None: ...

        f.__annotations__ = {"a": annotation, "return": None}
        return Method(object, "f", f).fingerprint

    kinds = [bytes, np.ndarray, Doubles, npt.NDArray[np.float32], npt.NDArray[np.floating[Any]]]
    assert len({fingerprint(kind) for kind in kinds}) == len(kinds)
    assert fingerprint(np.ndarray) == fingerprint(npt.NDArray[Any])


def test_larger_than_the_window(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """In parts, both ways, into the array itself."""
    serve(ArraysServer(), message_max=1 << 22)
    arrays = connect(Arrays, message_max=1 << 22)
    many = np.random.default_rng(1).random((300, 700))
    assert (arrays.double(many) == many * 2).all()
    assert (arrays.real(many) == many.T).all()


LIES = [
    (["<f8", [3]], 16), (["<f8", [2**62, 4]], 16), (["<f8", [2**62, 4]], 0), (["<f8", [0, 2**62, 2**62]], 0),
    (["<f8", [2**61] * 32], 0), (["<f4", [2]], 8), (["O", [1]], 8), (["|O8", [1]], 8), (["<i4,<f4", [1]], 8),
    (["|S0", [10**18]], 0), (["|V8", [1]], 8), (["<M8[lightyears]", [1]], 8), (["<f8" * 20, [1]], 8),
    (["<f8", [-1]], 8), (["<f8", [1] * 33], 8), (["<f8", None], 8), ("<f8", 8),
    (8, 8), (None, 0),
]  # fmt: skip


@pytest.mark.parametrize(("slot", "size"), LIES, ids=[str(lie)[:40] for lie in LIES])
@pytest.mark.parametrize("number", [1, 3], ids=["double", "same"])
def test_slots_that_lie(
    serve: Callable[..., Any], path: str, transport: str, slot: Any, size: int, number: int
) -> None:
    """A slot is checked against the attachment before anything is made: an error, or the end of the channel."""
    from flipcall.dynamic import DynamicClient
    from flipcall.method import encode
    from flipcall.stub import ask

    serve(ArraysServer())
    client = DynamicClient(path, transport=transport)  # type: ignore[arg-type]
    try:
        assert client.welcome.methods[number].name in ("double", "same")
        if (slot, number) == (["<f4", [2]], 3):  # an honest one, where any type will do
            ask(client._connection.pool, 20, number, encode([slot]), bytes(size))
        else:
            with pytest.raises((flipcall.CallError, flipcall.ClosedError, flipcall.PeerError)) as caught:
                ask(client._connection.pool, 20, number, encode([slot]), bytes(size))
            assert getattr(caught.value, "status", INVALID) is INVALID
    finally:
        client.close()
    with flipcall.connect(Arrays, path, transport=transport) as honest:  # type: ignore[arg-type]
        assert honest.same(MANY).shape == MANY.shape


@pytest.mark.parametrize(("slot", "size"), LIES, ids=[str(lie)[:40] for lie in LIES])
def test_results_that_lie(slot: Any, size: int) -> None:
    """The same of a result: the caller is told that it is not what the signature says."""
    import msgspec

    from flipcall.bulk import bulk_of
    from flipcall.method import Method, encode

    method = Method(Arrays, "double", Arrays.double)
    assert bulk_of(Doubles) is not None
    with pytest.raises((ValueError, msgspec.ValidationError)):
        method.unpack_result(method.result_bulk, encode(slot), bytes(size))  # type: ignore[arg-type]


def test_numpy_is_not_imported_unasked() -> None:
    """A service without arrays does not load it, though it is there."""
    code = """
import sys
import flipcall
from flipcall.conformance.services import Bulk, BulkServer
flipcall.Server(BulkServer(), "/nowhere")
print("numpy" in sys.modules)
"""
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert out.stdout == "False\n"
