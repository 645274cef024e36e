"""Unions that crash msgspec are refused where they are declared, those like them are not."""

# ruff: noqa: UP007
# Unions made of variables' values, and of classes that do not have `|` in Python 3.10.

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, NewType, TypedDict, TypeVar, Union

import pytest
from msgspec import Meta, Struct, defstruct

import flipcall
from flipcall.unions import check

T = TypeVar("T")
Positive = Annotated[int, Meta(gt=0)]
Short = Annotated[str, Meta(max_length=3)]
Word = Annotated[str, Meta(pattern="^a")]


class Pair(NamedTuple):
    a: int


class Box(Struct, Generic[T]):
    held: Positive | T


@dataclass
class Line:
    at: Positive | tuple[int, int]


class Keys(TypedDict):
    word: Word | list[int]


class Link(Struct):
    """Contains itself."""

    next: Link | None = None
    word: Word | None = None


CRASH = [
    Union[Positive, tuple[()]],
    Union[tuple[int, str], Short],
    Union[Annotated[float, Meta(multiple_of=2)], tuple[int]],
    Union[Annotated[dict[str, int], Meta(min_length=1)], tuple[int]],
    Positive | tuple[int],
    Annotated[int | tuple[int], Meta(gt=0)],
    Union[Word, list],
    Union[Word, set[int]],
    Union[Word, tuple[int, ...]],
    Union[Sequence[int], Word],
    Union[Mapping[str, int], None, Word],
    Union[NewType("N", Positive), tuple[int]],  # type: ignore[valid-newtype]
    defstruct("Held", [("a", dict[str, Line | None])]),
    Box[tuple[int]],
    Line,
    Keys,
]
FINE = [
    tuple[Positive, int],
    Union[Positive, tuple[int, ...]],
    Union[Positive, list[tuple[int, str]]],
    Union[Positive, Pair],
    Union[Positive, Word, None],
    Union[Word, tuple[int]],
    Union[str, list[Word], dict[str, Word]],
    Union[Annotated[int, Meta(title="x")], tuple[int]],
    Box[int],
    Link,
]


@pytest.mark.parametrize("kind", CRASH, ids=str)
def test_a_union_that_crashes_msgspec(kind: Any) -> None:
    """At any depth, in every kind of class: a TypeError that says why, before msgspec has seen it."""
    with pytest.raises(TypeError, match="crashes msgspec"):
        check(kind)


@pytest.mark.parametrize("kind", FINE, ids=str)
def test_a_union_that_does_not(kind: Any) -> None:
    """What only looks like it stays allowed."""
    check(kind)


@pytest.mark.parametrize("where", ["parameter", "result", "item"])
def test_a_service_with_one(where: str) -> None:
    """Its declaration is the program's mistake, and names the method."""

    def f(self: Any, a: Any) -> Any: ...

    bad = Union[Positive, tuple[int]]
    f.__annotations__ = {
        "a": bad if where == "parameter" else int,
        "return": {"result": bad, "item": Iterator[bad]}.get(where, int),  # type: ignore[valid-type]
    }
    service = type("Thing", (flipcall.Service,), {"f": f})
    with pytest.raises(flipcall.MisuseError, match=r"Thing.f: .*crashes msgspec"):
        flipcall.Server(service(), "/nowhere")
