"""What compat says agrees with what msgspec decodes: for types made at random, and for each kind of change."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import itertools
import re
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict, Union

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct, defstruct
from numpy.typing import NDArray

from flipcall import Fd
from flipcall.compat import Comparison, differences
from flipcall.errors import ProtocolError
from flipcall.shape import Field, MethodShape, Parameter, Record, method_shape

SHAPE: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(MethodShape)


def fits(written: Any, read: Any) -> list[str]:
    """compat's word on one type read as another, after both have crossed a wire."""
    # In a list, for bytes alone are bulk.
    w, r = (SHAPE.decode(msgspec.msgpack.encode(method_shape([], list[kind]))) for kind in (written, read))
    return Comparison(w.defs, r.defs, "writer", "reader").problems(w.result.item, r.result.item, "it")


def decodes(value: Any, kind: Any) -> bool:
    """msgspec's word on one value."""
    try:
        msgspec.msgpack.Decoder(kind).decode(msgspec.msgpack.encode(value))
    except msgspec.ValidationError:
        return False
    return True


class Kind(NamedTuple):
    """A type, and values of it that between them show whatever makes a reader refuse one."""

    type: Any
    values: list[Any]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


NOON = datetime.datetime(2026, 1, 1, 12)
SCALARS = [
    Kind(int, [0, -(2**63), 2**64 - 1, 7]),
    Kind(Annotated[int, Meta(ge=0)], [0, 3, 2**64 - 1]),
    Kind(Annotated[int, Meta(gt=0, le=10)], [1, 7, 10]),
    Kind(Annotated[int, Meta(multiple_of=4)], [0, 4, -(2**62), 2**62]),
    Kind(Annotated[int, Meta(multiple_of=2, ge=-4)], [0, 2, -4, 2**62]),
    Kind(float, [0.0, 1.5, -1e300]),
    Kind(Annotated[float, Meta(ge=0)], [0.0, 1.5, 1e300]),
    Kind(Annotated[float, Meta(gt=0, lt=20)], [5e-324, 1.5, 19.999]),
    Kind(str, ["", "red", "x" * 20]),
    Kind(Annotated[str, Meta(min_length=1, max_length=5)], ["a", "abcde"]),
    Kind(Annotated[str, Meta(pattern="^[ab]*$")], ["", "abab", "a" * 20]),
    Kind(bytes, [b"", b"x" * 20]),
    Kind(Annotated[bytes, Meta(max_length=4)], [b"", b"abcd"]),
    Kind(bool, [True, False]),
    Kind(None, [None]),
    Kind(Any, [0, "red", None, [1], {"a": 1}, 1.5]),
    Kind(Colour, list(Colour)),
    Kind(Level, list(Level)),
    Kind(Literal["red"], ["red"]),
    Kind(Literal[1, 2, 3], [1, 2, 3]),
    Kind(datetime.datetime, [NOON, NOON.replace(tzinfo=datetime.timezone.utc)]),
    Kind(Annotated[datetime.datetime, Meta(tz=True)], [NOON.replace(tzinfo=datetime.timezone.utc)]),
    Kind(Annotated[datetime.datetime, Meta(tz=False)], [NOON]),
]
# Not composed at random: of some unions of types with bounds msgspec 0.22 makes a decoder that crashes.
UNIONS = [
    Kind(Union[int, str], [0, -(2**63), "", "red"]),  # noqa: UP007
    Kind(Union[float, str, None], [0.5, "", None]),  # noqa: UP007
    Kind(Union[int, list[int]], [5, [], [1, 2]]),  # noqa: UP007
    Kind(Union[bool, list[str], dict[str, int]], [True, [""], {"red": 1}]),  # noqa: UP007
    Kind(Union[Colour, Level], [*Colour, *Level]),  # noqa: UP007
]
# Read only as themselves by compat, though msgspec may read some as str, too: what they mean is lost then.
DISTINCT = [
    Kind(datetime.date, [NOON.date()]),
    Kind(datetime.time, [NOON.time()]),
    Kind(datetime.timedelta, [datetime.timedelta(1)]),
    Kind(uuid.UUID, [uuid.UUID(int=5)]),
    Kind(Decimal, [Decimal("1.5")]),
]


@st.composite
def records(draw: st.DrawFn, inner: st.SearchStrategy[Kind]) -> Kind:
    """A Struct of up to three fields, some with defaults, of any configuration."""
    options: dict[str, Any] = {
        name: draw(st.booleans()) for name in ("array_like", "forbid_unknown_fields", "omit_defaults")
    }
    tag = draw(st.sampled_from([None, None, "one", "two", 3]))
    names = draw(st.lists(st.sampled_from("abc"), unique=True, min_size=1))
    kinds = {name: draw(inner) for name in names}
    # With omit_defaults a default is not written: one that is the only value would show nothing.
    single = [i for i, kind in enumerate(kinds.values()) if len({repr(v) for v in kind.values}) == 1]
    last_required = draw(st.integers(max(single, default=-1) + 1, len(names)))
    fields: list[Any] = []
    for i, (name, kind) in enumerate(kinds.items()):
        fields.append((name, kind.type) if i < last_required else (name, kind.type, kind.values[0]))
    made: Any = defstruct("Made", fields, tag=tag, frozen=True, **options)
    # One value with each field at each of its values, the others at their first: a difference shows alone.
    first = {name: kind.values[0] for name, kind in kinds.items()}
    values = [made(**{**first, name: value}) for name, kind in kinds.items() for value in kind.values]
    return Kind(made, [made(**first), *values])


def composed(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    """Types made of types."""
    return st.one_of(
        inner.map(lambda k: Kind(list[k.type], [[], *([v] for v in k.values), list(k.values) * 2])),
        inner.map(lambda k: Kind(dict[str, k.type], [{}, *({"red": v} for v in k.values)])),
        inner.map(lambda k: Kind(dict[int, k.type], [{}, *({1: v} for v in k.values)])),
        inner.map(
            lambda k: Kind(Annotated[list[k.type], Meta(max_length=1)], [[], *([v] for v in k.values)])
        ),
        st.tuples(inner, inner).map(
            lambda two: Kind(
                tuple[two[0].type, two[1].type],
                [
                    *((v, two[1].values[0]) for v in two[0].values),
                    *((two[0].values[0], v) for v in two[1].values),
                ],
            )
        ),
        inner.map(lambda k: Kind(Optional[k.type], [None, *k.values])),  # noqa: UP045
        records(inner),
    )


KINDS = st.recursive(st.sampled_from(SCALARS + UNIONS), composed, max_leaves=4)


# compat's own: a dict is no record and a list no row, even where that has no field that must be there, and a
# datetime is no str.
STRICTER = "(a map|an array) at the writer, .*(a map|an array|a class)|datetime.* at the writer, .*str"


@settings(max_examples=150, deadline=None)
@given(KINDS, KINDS)
def test_what_fits_decodes_and_what_does_not_fit_does_not(written: Kind, read: Kind) -> None:
    """compat says yes exactly when the reader takes every value that shows something."""
    taken = [decodes(value, read.type) for value in written.values]
    problems = fits(written.type, read.type)
    if any(re.search(STRICTER, p) for p in problems):
        return
    assert (not problems) == all(taken)


@settings(max_examples=80, deadline=None)
@given(KINDS)
def test_a_type_fits_itself(kind: Kind) -> None:
    """Whatever it is."""
    assert not fits(kind.type, kind.type)


@pytest.mark.parametrize(("written", "read"), [*itertools.product([*DISTINCT, SCALARS[8]], repeat=2)])
def test_types_written_as_text_fit_themselves_alone(written: Kind, read: Kind) -> None:
    """A date is no str, although its bytes are."""
    assert (not fits(written.type, read.type)) == (written is read)


class Old(Struct):
    a: int
    b: str = ""


class Added(Struct):
    a: int
    b: str = ""
    c: list[int] = []


class Demanding(Struct, kw_only=True):
    a: int
    b: str = ""
    c: list[int]


class Strict(Struct, forbid_unknown_fields=True):
    a: int
    b: str = ""


class Chary(Struct, omit_defaults=True):
    a: int = 0
    b: str = ""


class Unset(Struct):
    a: int | msgspec.UnsetType = msgspec.UNSET
    b: str = ""


class Renamed(Struct, rename={"a": "A"}):
    a: int
    b: str = ""


@dataclasses.dataclass
class Data:
    a: int
    b: str = ""


class Typed(TypedDict, total=False):
    a: int
    b: str


class Holding(Struct):
    log: Fd
    level: int = 0


class Tree(Struct):
    leaf: int
    children: list[Tree] = []


class WideTree(Struct):
    leaf: float
    children: list[WideTree] = []
    note: str = ""


class BadTree(Struct):
    leaf: int
    children: list[BadTree] = []
    twin: BadTree | str | None = None


class Cat(Struct, tag=True):
    lives: int = 9


class NewCat(Struct, tag="Cat"):
    lives: float = 9
    name: str = ""


class Dog(Struct, tag=True):
    bark: str = ""


class Row1(Struct, tag="one", array_like=True):
    a: int


class Row2(Struct, tag="two", array_like=True):
    a: str


@pytest.mark.parametrize(
    ("written", "read", "values"),
    [
        (Cat, Cat | Dog, [Cat()]),
        (Dog | Cat, NewCat | Dog, [Cat(), Dog()]),
        (NewCat | Dog, Cat | Dog, [NewCat(1.5), Dog()]),
        (Cat | Dog, Cat, [Cat(), Dog()]),
        (Old, Cat | Dog, [Old(1)]),
        (Old, Cat, [Old(1)]),
        (Row1 | Row2, Row1 | Row2, [Row1(1), Row2("")]),
        (Row1 | Row2, Row1, [Row1(1), Row2("")]),
        (Row1, Row1 | Row2, [Row1(1)]),
        (Row1, list[int | str], [Row1(1)]),
        (tuple[int, str], list[int | str], [(1, "")]),
        (Cat, dict[str, int | str], [Cat()]),
        (Old, dict[str, int | str], [Old(1)]),
        (Old, dict[str, int], [Old(1)]),
    ],
)
def test_tags(written: Any, read: Any, values: list[Any]) -> None:
    """Members of a union are told apart by their tags."""
    if (written, read) == (Cat, dict[str, int | str]):
        assert fits(written, read)  # a tag is no entry, though msgspec reads it as one
    else:
        assert (not fits(written, read)) == all(decodes(value, read) for value in values)


@pytest.mark.parametrize(
    ("written", "read", "problem"),
    [
        (Old, Added, None),
        (Added, Old, None),
        (Old, Demanding, "it.c: the writer lacks it, the reader requires it"),
        (Demanding, Old, None),
        (Added, Strict, "it.c: the reader forbids fields that it does not know"),
        (Chary, Old, "it.a: the writer may leave it out, the reader requires it"),
        (Unset, Old, "it.a: the writer may leave it out, the reader requires it"),
        (Old, Chary, None),
        (Old, Unset, None),
        (Renamed, Old, "it.a: the writer lacks it"),
        (Data, Old, None),
        (Typed, Old, "it.a: the writer may leave it out"),
        (Old, Typed, None),
        (Tree, WideTree, None),
        (WideTree, Tree, "it.leaf: float at the writer, int at the reader"),
        (Tree, BadTree, None),
        (BadTree, Tree, None),
        (list[Old], list[Demanding], "it[].c: the writer lacks it"),
        (dict[str, int], dict[str, str], "it[]: int at the writer, str at the reader"),
        (dict[int, int], dict[str, int], "a key of it: int at the writer, str at the reader"),
        (Literal["a", "b"], Literal["a"], "it: one of 'a', 'b' at the writer, one of 'a' at the reader"),
        (int | None, int, "it: null at the writer, int at the reader"),
        (int, Annotated[int, Meta(ge=0)], "it: int at the writer, int (ge 0) at the reader"),
        (int, Annotated[int, Meta(gt=0, le=9)], "it: int at the writer, int (ge 1, le 9) at the reader"),
        (str, Annotated[str, Meta(min_length=1)], "it: str at the writer, str (least 1) at the reader"),
        (
            list[int],
            Annotated[list[int], Meta(max_length=0)],
            "it: its length at the writer goes beyond what the reader takes",
        ),
    ],
)
def test_each_change_is_named(written: Any, read: Any, problem: str | None) -> None:
    """Compatible changes are none; the others are told with their path, and who does what."""
    found = fits(written, read)
    if problem is None:
        assert found == []
    else:
        assert any(p.startswith(problem) for p in found), found


def method(result: Any, **params: Any) -> MethodShape:
    """A method's shape; a parameter with a default is given as (type, None)."""
    named = [(n, p if isinstance(p, tuple) else (p,)) for n, p in params.items()]
    return method_shape([Parameter(n, len(p) == 1, p[0]) for n, p in named], result)


@pytest.mark.parametrize(
    ("client", "server", "problem"),
    [
        (method(int, a=int), method(int, a=int, b=(str, None)), None),
        (method(int, a=int, b=(str, None)), method(int, a=int), None),
        (method(int, a=int), method(int, a=int, b=str), "the client has no parameter b"),
        (method(int, a=int, b=str), method(int, a=int), "the server has no parameter b"),
        (method(int, a=(int, None)), method(int, a=int), "parameter a may be missing at the client"),
        (method(int, a=int), method(int, a=(int, None)), None),
        (method(int, x=int), method(int, a=int), "parameter 1 is x at the client, a at the server"),
        (method(int, a=float), method(int, a=int), "parameter a: float at the client, int at the server"),
        (method(int, a=int), method(int, a=float), None),
        (method(float), method(int), None),
        (method(int), method(float), "the result: float at the server, int at the client"),
        (method(Added), method(Old), None),
        (method(Old), method(Added), None),
        (method(Demanding), method(Old), "the result.c: the server lacks it"),
        (method(bytes), method(list[bytes]), "the result: an array at the server, bulk at the client"),
        (method(bytes), method(memoryview), None),
        (method(None, a=bytes), method(None, a=bytearray), None),
        (method(None, a=NDArray[np.float64]), method(None, a=NDArray[np.float64]), None),
        (method(None, a=NDArray[np.float64]), method(None, a=np.ndarray), None),
        (
            method(None, a=np.ndarray),
            method(None, a=NDArray[np.float64]),
            "parameter a: ndarray at the client",
        ),
        (
            method(None, a=NDArray[np.int8]),
            method(None, a=NDArray[np.float64]),
            "parameter a: ndarray of int8",
        ),
        (method(None, a=bytes), method(None, a=np.ndarray), "parameter a: bulk at the client, ndarray"),
        (method(Holding), method(Holding), None),
        (method(Fd), method(int), "the result: int at the server, fd at the client"),
        (method(Iterator[Old]), method(Iterator[Added]), None),
        (method(Iterator[Demanding]), method(Iterator[Old]), "an item of the result.c"),
        (method(list[Old]), method(Iterator[Old]), "the result: a stream at the server, an array"),
        (method(None, a=Iterator[float]), method(None, a=Iterator[int]), "an item of parameter a: float"),
    ],
)
def test_each_side_is_a_writer_once(client: MethodShape, server: MethodShape, problem: str | None) -> None:
    """Parameters are read by the server, results by the client; streams item by item, bulk only as bulk."""
    found = differences(client, server)
    assert found == [] if problem is None else any(p.startswith(problem) for p in found), found


def test_nothing_for_people_is_in_a_shape() -> None:
    """Names of classes, docstrings and defaults make no difference; the order of a union does not either."""
    other: Any = defstruct("Other", [("a", int), ("b", str, "c")], namespace={"__doc__": "Something else."})
    assert method(Old).fingerprint() == method(other).fingerprint()
    assert method(int | str | None).fingerprint() == method(None | str | int).fingerprint()


def test_hostile_shapes() -> None:
    """References to nothing are the peer's fault, and shapes that branch without end are walked once."""
    honest = method(Tree)
    for number in (-1, 1, 10**9):
        with pytest.raises(ProtocolError):
            differences(MethodShape([], number), honest)
    deep: list[Any] = [Record([Field(n, i + 1) for n in ("leaf", "children", "x")]) for i in range(200)]
    deep.append(Record([Field("leaf", "str")]))
    assert differences(MethodShape([Field("a", 0)], "int", deep), method(int, a=Tree))
