"""Unions that crash msgspec, which are refused where they are declared: a request must never end a process.

msgspec (0.18 to 0.22, the newest today) keeps one node for all members of a union, with their bounds and item
types in slots, and counts some of the slots wrongly. In two mixtures one member's slot is read as another's: when
a value is decoded, when the decoder is freed, when the collector looks at it. What follows is SIGSEGV or garbage.

    a bound on a number, a length            with  a tuple of fixed length
    a pattern of a str                       with  a list, set, frozenset, tuple[T, ...] or dict

msgspec.inspect makes a decoder of what it is asked about. So this looks at the annotations themselves.
"""

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union

import msgspec

_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length")
_PLAIN = (str, bytes, bytearray, memoryview)  # collections which for msgspec have no items

Known = Mapping[Any, Any]  # what a generic class's variables stand for


def check(kind: Any) -> None:
    """Raises TypeError for a type in which, at any depth, there is such a union."""
    seen: set[Any] = set()
    todo: list[tuple[Any, Known]] = [(kind, {})]
    while todo:
        at, known = todo.pop()
        members = list(_members(at, known))
        _check([member for member, _ in members], [meta for _, metas in members for meta in metas])
        for member, _ in members:
            key = (_name(member), tuple(map(_name, known.values())))
            if key not in seen:
                seen.add(key)
                todo.extend(_inside(member, known))


def _name(kind: Any) -> Any:
    """What tells a type from others: annotations of Annotated need not be hashable."""
    try:
        hash(kind)
    except TypeError:
        return repr(kind)
    return kind


def _members(kind: Any, known: Known, metas: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The members of a union, or the type itself, each with what Annotated says of it."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        inner, *more = typing.get_args(kind)
        yield from _members(inner, known, (*metas, *more))
    elif origin is Union or isinstance(kind, types.UnionType):
        for member in typing.get_args(kind):
            yield from _members(member, known, metas)
    elif isinstance(kind, TypeVar):
        for member in (known[kind],) if kind in known else kind.__constraints__ or (kind.__bound__ or Any,):
            yield from _members(member, {}, metas)
    elif hasattr(kind, "__supertype__"):  # NewType
        yield from _members(kind.__supertype__, known, metas)
    elif hasattr(kind, "__value__"):  # `type X = ...`
        yield from _members(kind.__value__, known, metas)
    else:
        yield kind, metas


def _inside(kind: Any, known: Known) -> Iterator[tuple[Any, Known]]:
    """The types of its items, keys, values and fields."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        return
    arguments = [known.get(a, a) if isinstance(a, TypeVar) else a for a in typing.get_args(kind)]
    for argument in arguments:
        yield argument, known
    owner = origin or kind
    if _has_fields(owner):
        variables = dict(zip(getattr(owner, "__parameters__", ()), arguments, strict=False))
        for hint in typing.get_type_hints(owner, include_extras=True).values():
            yield hint, variables


def _has_fields(kind: Any) -> bool:
    if not isinstance(kind, type):
        return False
    return (
        issubclass(kind, msgspec.Struct)
        or dataclasses.is_dataclass(kind)
        or typing.is_typeddict(kind)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
        or hasattr(kind, "__attrs_attrs__")
    )


def _check(members: list[Any], metas: list[Any]) -> None:
    def said(*names: str) -> bool:
        return any(getattr(meta, name, None) is not None for meta in metas for name in names)

    if len(members) > 1 and said(*_BOUNDS) and any(_is_fixed_tuple(m) for m in members):
        raise TypeError("a union of a tuple of fixed length and a type with bounds crashes msgspec")
    if len(members) > 1 and said("pattern") and any(_is_many(m) for m in members):
        raise TypeError("a union of a list, set, tuple or dict and a str with a pattern crashes msgspec")


def _is_fixed_tuple(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple and kind is not tuple and typing.get_args(kind)[-1:] != (...,)


def _is_many(kind: Any) -> bool:
    owner = typing.get_origin(kind) or kind
    if not isinstance(owner, type) or owner in _PLAIN or _is_fixed_tuple(kind) or _has_fields(owner):
        return False
    return issubclass(owner, collections.abc.Collection)
