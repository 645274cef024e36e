"""What a type looks like on the wire: the grammar that two sides compare (proto/handshake.md, "Shapes").

A shape says what msgpack bytes a type is written as and read from, and nothing that is only for people: no class
name, no docstring, no default. It is plain data, so that it can be sent, hashed (a method's fingerprint), and
compared with another (compat.py). Rejected: JSON Schema, which has no word for much that msgpack carries (keys
that are no strings, bytes, timestamps), and which each version of msgspec may write in another way.

Classes stand in a method's `defs`, in the order in which they are met; where one is meant stands its number there.
"""

import hashlib
import math
import typing
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

import msgspec
from msgspec import Struct
from msgspec import inspect as mi

from .bulk import bulk_of
from .fd import Fd
from .items import item_type


class Number(Struct, tag="number", omit_defaults=True):
    """int or float within bounds. Those of an int are inclusive."""

    kind: str
    ge: int | float | None = None
    le: int | float | None = None
    gt: int | float | None = None
    lt: int | float | None = None
    multiple_of: int | float | None = None


class Text(Struct, tag="text", omit_defaults=True):
    """str or bytes of a length between least and most, a str also of a pattern."""

    kind: str
    least: int = 0
    most: int | None = None
    pattern: str | None = None


class Choice(Struct, tag="choice"):
    """One of these, all int or all str: an Enum, a Literal, a tag. Sorted."""

    values: list[int | str]


class Array(Struct, tag="array", omit_defaults=True):
    """Any number of items, within bounds: list, set, frozenset, tuple[T, ...]."""

    item: "Shape"
    least: int = 0
    most: int | None = None


class Map(Struct, tag="map", omit_defaults=True):
    """dict."""

    key: "Shape"
    value: "Shape"
    least: int = 0
    most: int | None = None


class Union_(Struct, tag="union"):
    """One of several, which their bytes tell apart."""

    of: "list[Shape]"


class Stream(Struct, tag="stream"):
    """A parameter or result that is an iterator."""

    item: "Shape"


class Field(Struct, omit_defaults=True):
    """A field of a record, an item of a row, a parameter. required: a reader wants it; written: a writer always
    writes it (a field with a default is written all the same, unless its class has omit_defaults).
    """

    name: str
    shape: "Shape"
    required: bool = True
    written: bool = True


class Record(Struct, tag="record", omit_defaults=True):
    """A map with known keys: Struct, dataclass, TypedDict. open: unknown keys are ignored, else refused."""

    fields: list[Field]
    open: bool = True
    tag: tuple[str, int | str] | None = None


class Row(Struct, tag="row", omit_defaults=True):
    """An array with known places, a tag's the first: tuple[A, B], NamedTuple, Struct(array_like=True)."""

    items: list[Field]
    open: bool = False


# A str is a kind without parts ("int", "null", "bulk", ...), an int a number in defs. Not `|`: names are forward.
Shape = Union[str, int, Number, Text, Choice, Array, Map, Union_, Row, Stream]  # noqa: UP007
Def = Record | Row


class MethodShape(Struct, omit_defaults=True):
    """A method: what its parameters are and what its result is."""

    params: list[Field]
    result: Shape
    defs: list[Def] = []

    def fingerprint(self) -> str:
        """Equal for equal shapes: 16 hexadecimal digits of a SHA-256."""
        return hashlib.sha256(_canonical(self)).hexdigest()[:16]


_canonical = msgspec.json.Encoder(order="sorted").encode


class Parameter(NamedTuple):
    """A parameter of a Python function, as far as its shape goes."""

    name: str
    required: bool
    kind: Any


def method_shape(params: Sequence[Parameter], result: Any) -> MethodShape:
    """The shape of a method with these parameters and this type of result. Raises TypeError for what msgspec
    cannot describe.
    """
    kinds = [stream_item(kind) for kind in (*(p.kind for p in params), result)]
    bulks = [bulk_of(kind) for kind, _ in kinds]
    known = [kind for (kind, _), bulk in zip(kinds, bulks, strict=True) if bulk is None]
    infos = iter(mi.multi_type_info(known))
    writer = _Writer()
    shapes: list[Shape] = []
    for (_, streamed), bulk in zip(kinds, bulks, strict=True):
        shape = writer.shape(next(infos)) if bulk is None else bulk.schema
        shapes.append(Stream(shape) if streamed else shape)
    fields = [
        Field(p.name, shape, p.required, p.required) for p, shape in zip(params, shapes[:-1], strict=True)
    ]
    return MethodShape(fields, shapes[-1], writer.defs)


def stream_item(kind: Any) -> tuple[Any, bool]:
    """The type of a stream's items and True; any other type as it is, and False."""
    item = item_type(kind)
    return (kind, False) if item is None else (item, True)


_PLAIN: dict[type[mi.Type], str] = {
    mi.AnyType: "any", mi.NoneType: "null", mi.BoolType: "bool", mi.DateType: "date", mi.TimeDeltaType: "duration",
    mi.UUIDType: "uuid", mi.DecimalType: "decimal", mi.ExtType: "ext", mi.RawType: "any",
}  # fmt: skip
_ZONES = {None: "", True: " with zone", False: " without zone"}


class _Writer:
    """Turns msgspec's descriptions of types into shapes, and numbers the classes among them."""

    def __init__(self) -> None:
        self.defs: list[Def] = []
        self._numbers: dict[int, int] = {}  # by id() of the description: msgspec makes one for each class

    def shape(self, info: mi.Type) -> Shape:
        match info:
            case mi.Metadata():
                return self.shape(info.type)
            case mi.IntType() | mi.FloatType():
                return _number(info)
            case mi.StrType() | mi.BytesType() | mi.ByteArrayType() | mi.MemoryViewType():
                return _text(info)
            case mi.DateTimeType() | mi.TimeType():
                return ("datetime" if isinstance(info, mi.DateTimeType) else "time") + _ZONES[info.tz]
            case mi.EnumType():
                return _choice([member.value for member in info.cls])
            case mi.LiteralType():
                return _choice(info.values)
            case mi.UnionType():
                return _union([self.shape(t) for t in info.types])
            case mi.ListType() | mi.SetType() | mi.FrozenSetType() | mi.VarTupleType():
                return Array(self.shape(info.item_type), info.min_length or 0, info.max_length)
            case mi.DictType():
                key, value = self.shape(info.key_type), self.shape(info.value_type)
                return Map(key, value, info.min_length or 0, info.max_length)
            case mi.TupleType():
                return Row([Field("", self.shape(t)) for t in info.item_types])
            case mi.StructType() | mi.DataclassType() | mi.TypedDictType() | mi.NamedTupleType():
                return self._class(info)
            case mi.CustomType() if info.cls is Fd:
                return "fd"
            case mi.CustomType():
                return f"{info.cls.__module__}.{info.cls.__qualname__}"
        return _PLAIN[type(info)]

    def _class(self, info: Any) -> int:
        number = self._numbers.get(id(info))
        if number is None:
            number = self._numbers[id(info)] = len(self.defs)
            self.defs.append(Row([]))  # its place, before those of the classes in it
            self.defs[number] = self._described(info)
        return number

    def _described(self, info: Any) -> Def:
        leaves_out = _left_out(info)
        fields = [
            Field(f.encode_name, self.shape(f.type), f.required, f.name not in leaves_out)
            for f in info.fields
        ]
        if isinstance(info, mi.NamedTupleType):
            return Row(fields)
        if not isinstance(info, mi.StructType):
            return Record(fields)
        if not info.array_like:
            tag = None if info.tag is None or info.tag_field is None else (info.tag_field, info.tag)
            return Record(fields, not info.forbid_unknown_fields, tag)
        if info.tag is not None:
            fields.insert(0, Field("", _choice([info.tag])))
        return Row(fields, not info.forbid_unknown_fields)


def _left_out(info: Any) -> set[str]:
    """Names of the fields that a writer of this class does not always write."""
    if isinstance(info, mi.TypedDictType):
        return {f.name for f in info.fields if not f.required}
    if not isinstance(info, mi.StructType):
        return set()
    hints = typing.get_type_hints(info.cls)
    unset = {n for n, hint in hints.items() if msgspec.UnsetType in typing.get_args(hint)}
    if info.cls.__struct_config__.omit_defaults:
        return unset | {f.name for f in info.fields if not f.required}
    return unset


def _number(info: mi.IntType | mi.FloatType) -> Shape:
    if isinstance(info, mi.FloatType):
        found = Number("float", info.ge, info.le, info.gt, info.lt, info.multiple_of)
        return "float" if found == Number("float") else found
    ge, le = info.ge, info.le
    if info.gt is not None:
        ge = math.floor(info.gt) + 1
    if info.lt is not None:
        le = math.ceil(info.lt) - 1
    found = Number("int", ge, le, multiple_of=info.multiple_of)
    return "int" if found == Number("int") else found


def _text(info: Any) -> Shape:
    kind = "str" if isinstance(info, mi.StrType) else "bytes"
    found = Text(kind, info.min_length or 0, info.max_length, getattr(info, "pattern", None))
    return kind if found == Text(kind) else found


def _choice(values: Sequence[Any]) -> Shape:
    numbers: list[int | str] = sorted(v for v in values if isinstance(v, int))
    words: list[int | str] = sorted(v for v in values if isinstance(v, str))
    found: list[Shape] = [Choice(some) for some in (numbers, words) if some]
    return _union(found + ["null"] * (None in values))


def _union(shapes: Sequence[Shape]) -> Shape:
    """The union of `shapes`: flat, in an order of its own, for order means nothing in a union."""
    flat: list[Shape] = []
    for shape in shapes:
        flat += shape.of if isinstance(shape, Union_) else [shape]
    if "any" in flat:
        return "any"
    flat.sort(key=_canonical)
    return flat[0] if len(flat) == 1 else Union_(flat)
