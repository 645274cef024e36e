"""Arguments bind as in a call of the function itself: positions, keywords, defaults."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import abc
import os
from collections.abc import Callable
from typing import Any

import pytest

import flipcall

from .services import Desk


def test_defaults_and_keywords(desk: Desk) -> None:
    """Missing arguments have their defaults, named ones find their places."""
    assert desk.add(1) == 11
    assert desk.add(1, 2) == 3
    assert desk.add(1, times=3) == 33
    assert desk.add(b=1, a=2) == 3
    assert desk.add(1, b=2, times=4) == 12


def test_a_keyword_without_default_after_a_default(desk: Desk) -> None:
    """A required keyword-only parameter may follow one with a default."""
    assert desk.must(b=2) == [1, 2]
    assert desk.must(5, b=2) == [5, 2]


def test_no_arguments_no_result(desk: Desk) -> None:
    """A method may have neither."""
    assert desk.none() is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1, 2, 3), {}),
        ((1, 2, 3, 4), {}),
        ((1,), {"unknown": 1}),
        ((1,), {"a": 1}),
    ],
)
def test_arguments_that_do_not_bind(desk: Desk, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """What the function itself would refuse raises TypeError here; keyword-only ones take no position."""
    with pytest.raises(TypeError):
        desk.add(*args, **kwargs)
    assert desk.add(1) == 11


def test_the_server_knows_the_caller(desk: Desk) -> None:
    """context().peer is who called, by the kernel's word."""
    assert desk.whoami() == (os.getpid(), os.geteuid())


def test_context_outside_a_handler() -> None:
    """A thread that serves no call has no context."""
    with pytest.raises(flipcall.MisuseError):
        flipcall.context()


def test_an_abstract_contract(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """A contract may be an abstract class, so that an implementation cannot forget a method."""

    class Abstract(flipcall.Service, abc.ABC):
        @abc.abstractmethod
        def one(self) -> int: ...

    class Concrete(Abstract):
        def one(self) -> int:
            return 1

    serve(Concrete())
    assert connect(Abstract).one() == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: {"f": lambda self, x: 1}, "annotation"),
        (lambda: {"f": _annotated("*xs: int")}, "xs"),
        (lambda: {"f": _annotated("**xs: int")}, "xs"),
        (lambda: {"f": _annotated("x: int", "")}, "result"),
        (lambda: {"f": _annotated("x: Undefined")}, "Undefined"),
        (dict, "no public method"),
    ],
)
def test_contracts_that_cannot_be(make: Callable[[], dict[str, Any]], says: str) -> None:
    """A signature that no wire can carry is told when the contract is made, with its name."""
    contract = type("Wrong", (flipcall.Service,), make())
    with pytest.raises(flipcall.MisuseError, match=says):
        flipcall.Server(contract(), "/nowhere")


def _annotated(parameters: str, result: str = " -> int") -> Any:
    names: dict[str, Any] = {}
    exec(f"def f(self, {parameters}){result}: ...", {"__name__": __name__}, names) if (
        "Undefined" not in parameters
    ) else exec("from __future__ import annotations\n" + f"def f(self, {parameters}){result}: ...", names)
    return names["f"]
