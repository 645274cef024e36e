"""Two sides that do not mean the same are told at once, and in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import flipcall


def contract(name: str, methods: str) -> type[flipcall.Service]:
    """A service class of that name; `methods` is the source of its body."""
    names: dict[str, Any] = {"flipcall": flipcall}
    exec(f"class {name}(flipcall.Service):\n" + methods, names)
    made: type[flipcall.Service] = names[name]
    return made


OLD = "    def same(self, a: int) -> int: ...\n"
SERVED = OLD + "    def f(self, a: int, b: str = '') -> list[int]: ...\n"


@pytest.mark.parametrize(
    "other",
    [
        "def f(self, a: str, b: str = '') -> list[int]: ...",
        "def f(self, a: int, b: str = '') -> list[str]: ...",
        "def f(self, a: int | None = None, b: str = '') -> list[int]: ...",
        "def f(self, x: int, b: str = '') -> list[int]: ...",
        "def f(self, a: int, b: bytes = b'') -> list[int]: ...",
        "def f(self, a: int, b: str = '') -> bytes: ...",
    ],
)
def test_a_mismatch_is_refused_and_names_both(
    serve: Callable[..., Any], connect: Callable[..., Any], other: str
) -> None:
    """A method that the two sides type differently is refused at connect, with both signatures."""
    serve(contract("Thing", SERVED)())
    with pytest.raises(flipcall.CallError) as info:
        connect(contract("Thing", OLD + "    " + other))
    assert info.value.status is flipcall.Status.FAILED_PRECONDITION
    assert "f(a: int, b: str = '') -> list[int]" in info.value.message
    assert other.replace("self, ", "").split("def ")[1].split(":")[0] in info.value.message
    assert "same" not in info.value.message


def test_another_default_is_no_mismatch(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """What a missing argument means is the server's affair."""
    serve(contract("Thing", "    def f(self, a: int = 1) -> int:\n        return a\n")())
    assert connect(contract("Thing", "    def f(self, a: int = 2) -> int: ...\n")).f() == 1


def test_another_service_is_refused(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """A client of another service is told which one is here."""
    serve(contract("Thing", OLD)())
    with pytest.raises(flipcall.CallError, match=r"Other.*Thing") as info:
        connect(contract("Other", OLD))
    assert info.value.status is flipcall.Status.FAILED_PRECONDITION


def test_a_method_the_server_lacks(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """It is UNIMPLEMENTED when called; the others work, by their names, whatever their numbers."""
    serve(contract("Thing", "    def b(self, x: int) -> int:\n        return x\n")())
    client = connect(contract("Thing", OLD + "    def b(self, x: int) -> int: ...\n"))
    assert client.b(5) == 5
    with pytest.raises(flipcall.CallError, match="same") as info:
        client.same(1)
    assert info.value.status is flipcall.Status.UNIMPLEMENTED


def test_a_method_the_client_lacks(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """A server may have more methods than its client knows."""
    body = "".join(f"    def m{i}(self) -> int:\n        return {i}\n" for i in range(20))
    serve(contract("Thing", body)())
    assert connect(contract("Thing", "    def m7(self) -> int: ...\n")).m7() == 7


def test_as_many_methods_as_allowed(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """A service of 1024 methods with long names can be connected to; one more cannot be."""
    body = "".join(
        f"    def a_method_with_a_rather_long_name_{i}(self, first_argument: dict[str, list[int]],"
        f" second_argument: str = 'something') -> dict[int, str]: ...\n"
        for i in range(1024)
    )
    service = contract("Wide", body)
    serve(service())
    connect(service)
    with pytest.raises(flipcall.MisuseError, match="1025"):
        flipcall.Server(contract("Wide", body + OLD)(), "/nowhere")


def test_hundreds_of_mismatches(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """However many differ, the refusal can be read."""
    line = "    def m{}(self, a: {}) -> int: ...\n"
    serve(contract("Thing", "".join(line.format(i, "int") for i in range(1000)))())
    with pytest.raises(flipcall.CallError, match="and 990 more"):
        connect(contract("Thing", "".join(line.format(i, "str") for i in range(1000))))


@pytest.mark.parametrize("wrong", [None, 5, "service"])
def test_what_cannot_be_served(wrong: Any) -> None:
    """What is neither a service nor makes one is refused before anything listens."""
    with pytest.raises(flipcall.MisuseError):
        flipcall.Server(wrong, "/nowhere")


@pytest.mark.parametrize("kind", [list[Iterator[int]], Iterator[int] | None, Iterator])
def test_streams_where_none_can_be(kind: Any) -> None:
    """A stream inside of something, or of nothing in particular, is refused where it is declared."""
    service = contract("Thing", "    def f(self, a) -> int: ...\n")
    service.f.__annotations__["a"] = kind  # type: ignore[attr-defined]
    with pytest.raises(flipcall.MisuseError, match="a stream is a whole parameter"):
        flipcall.Server(service(), "/nowhere")
