"""What a contract declares and nobody implements is said to be so; what cannot be a method is refused at once."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import abc
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import flipcall
import flipcall.asyncio
from flipcall.service import contract_of
from tests.interceptors.conftest import Told

# The loops' server of the other tests wraps every method in one of its own: here are those that serve the object.
AS_IT_IS = pytest.mark.parametrize("kind", ["window", "socket", "loop client"])


class Half(flipcall.Service):
    """Declared in every way there is; two methods have a body of their own."""

    def dots(self, a: int) -> int: ...

    def documented(self, a: int) -> int:
        """What it would do."""

    def passing(self, a: int) -> None:
        pass

    def refusing(self, a: int, *, b: int = 1) -> int:
        raise NotImplementedError

    def bulk(self, data: bytes) -> bytes: ...
    def items(self, n: int) -> Iterator[int]: ...
    def total(self, numbers: Iterator[int]) -> int: ...

    def default(self, a: int) -> int:
        return a + 1

    def explained(self) -> int:
        raise NotImplementedError("next year")


class HalfServer(Half):
    def dots(self, a: int) -> int:
        return 2 * a

    def passing(self, a: int) -> None:
        pass


CALLS: dict[str, Callable[[Half], Any]] = {
    "documented": lambda half: half.documented(1),
    "refusing": lambda half: half.refusing(1, b=2),
    "bulk": lambda half: half.bulk(b"x"),
    "items": lambda half: list(half.items(1)),
    "total": lambda half: half.total(iter([1])),
}


@AS_IT_IS
@pytest.mark.parametrize("options", [{}, {"max_calls": 1}], ids=["open", "gated"])
def test_what_is_left_out_is_unimplemented(
    serve: Callable[..., Any], connect: Callable[..., Half], options: dict[str, Any]
) -> None:
    """A call of it is told so, by name, and the channel goes on; what has a body, there or here, is called."""
    serve(HalfServer(), **options)
    half = connect(Half, max_channels=1)
    for name, call in CALLS.items():
        with pytest.raises(flipcall.CallError, match=rf"not implement Half\.{name}$") as info:
            call(half)
        assert info.value.status is flipcall.Status.UNIMPLEMENTED
        assert half.dots(4) == 8
    half.passing(1)
    assert half.default(1) == 2
    with pytest.raises(NotImplementedError, match="next year"):
        half.explained()


@AS_IT_IS
def test_a_contract_served_bare(serve: Callable[..., Any], connect: Callable[..., Half]) -> None:
    """Whoever serves the contract itself, and not an implementation, hears of it in words at the first call."""
    serve(Half())
    half = connect(Half)
    for call in (*CALLS.values(), lambda half: half.dots(1), lambda half: half.passing(1)):
        with pytest.raises(flipcall.CallError, match="the server does not implement Half") as info:
            call(half)
        assert info.value.status is flipcall.Status.UNIMPLEMENTED
    assert half.default(1) == 2


def test_a_server_in_a_loop(path: str) -> None:
    """The same of `async def`."""
    import asyncio

    class Loop(flipcall.Service):
        async def dots(self) -> int: ...

        async def documented(self) -> int:
            """Doc."""

        async def refusing(self) -> int:
            raise NotImplementedError

        def items(self) -> AsyncIterator[int]: ...

        async def default(self) -> int:
            return 1

    async def main() -> None:
        async with flipcall.asyncio.Server(Loop(), path), flipcall.asyncio.connect(Loop, path) as loop:
            with pytest.raises(flipcall.CallError, match=r"not implement Loop\.items$"):
                await anext(aiter(loop.items()))
            for name in ("dots", "documented", "refusing"):
                with pytest.raises(flipcall.CallError, match=rf"not implement Loop\.{name}$") as info:
                    await getattr(loop, name)()
                assert info.value.status is flipcall.Status.UNIMPLEMENTED
            assert await loop.default() == 1

    asyncio.run(main())


def test_what_only_declares() -> None:
    """A constant result is a body, and so is one that does anything."""

    class Bodies(flipcall.Service):
        def five(self) -> int:
            return 5

        def text(self) -> str:
            return "text"

        def documented_text(self) -> str:
            """The text."""
            return "The text."

        def raises(self) -> int:
            raise NotImplementedError("why")

        def other(self) -> int:
            raise RuntimeError

        def calls(self) -> None:
            print()

        def declared(self) -> int:
            """Only this.

            In two lines.
            """

    assert list(contract_of(Bodies).declared) == ["declared"]
    assert sorted(contract_of(Told).declared) == [m.name for m in contract_of(Told).methods]


@pytest.mark.parametrize(
    "make",
    [
        staticmethod,
        classmethod,
        property,
        functools.cached_property,
        functools.lru_cache,
        functools.partialmethod,
    ],
)
def test_what_is_no_method_is_refused_where_it_is_defined(make: Callable[[Any], Any]) -> None:
    """In a contract, with its name: a client could not call it. With an underscore it is no part of that."""
    with pytest.raises((flipcall.MisuseError, RuntimeError), match=r"Wrong\.other is a .*name it _other"):
        type("Wrong", (flipcall.Service,), {"other": make(lambda self: 1)})
    type("Right", (flipcall.Service,), {"_other": make(lambda self: 1)})
    type("RightServer", (Half,), {"other": make(lambda self: 1)})


def test_names_of_the_clients_own() -> None:
    """Those of Service are refused where a contract takes them for a method; the hook itself is none."""

    def method(self: Any, a: int) -> int:
        return a

    for name in ("close", "on_disconnect"):
        with pytest.raises(flipcall.MisuseError, match=rf"Wrong\.{name}: the name"):
            type("Wrong", (flipcall.Service,), {name: method})
    hooked = type("Hooked", (flipcall.Service,), {"on_disconnect": lambda self: None, "method": method})
    assert [m.name for m in contract_of(hooked).methods] == ["method"]


def test_what_else_a_contract_may_hold(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """Constants, classes, aliases and what begins with an underscore."""

    class Holding(flipcall.Service, abc.ABC):
        LIMIT = 3
        Numbers = list[int]

        class Inner:
            pass

        @property
        def _hidden(self) -> int:
            return 1

        @abc.abstractmethod
        def method(self, a: int) -> int: ...

    class HoldingServer(Holding):
        def method(self, a: int) -> int:
            return a + self.LIMIT

    serve(HoldingServer())
    assert connect(Holding).method(1) == 4


@pytest.mark.parametrize("member", [3, None, property(lambda self: 3)], ids=["int", "None", "property"])
def test_an_implementation_of_no_function(member: Any) -> None:
    """What hides a method of the contract and cannot be called is refused when the server is made."""
    wrong = type("Wrong", (Half,), {"dots": member})()
    with pytest.raises(flipcall.MisuseError, match=r"Wrong\.dots is a method of Half's contract, not"):
        flipcall.Server(wrong, "/nowhere")


def test_an_implementation_may_be_any_callable(
    serve: Callable[..., Any], connect: Callable[..., Half]
) -> None:
    """A static method, a partial one, or a function that the object got when it was made."""

    class Callables(Half):
        documented = functools.partialmethod(lambda self, b, a: a + b, 10)  # type: ignore[assignment]

        def __init__(self) -> None:
            self.refusing = lambda a, b=1: a * b  # type: ignore[method-assign]

        @staticmethod
        def dots(a: int) -> int:  # type: ignore[override]
            return a

    serve(Callables())
    half = connect(Half)
    assert (half.dots(1), half.documented(1), half.refusing(2, b=3)) == (1, 11, 6)
