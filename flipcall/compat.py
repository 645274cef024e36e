"""Whether one side can read all that the other may write: evolution of a service (proto/handshake.md, "Shapes").

A request is written by the client and read by the server, a result the other way round. So a Struct may gain a
field with a default, a method a parameter with a default, a service a method, an Enum that only clients send may
lose a value; what does not fit is told field by field.

`Comparison.problems()` walks two shapes side by side, the writer's and the reader's, and answers as msgspec's
decoder would: tests/proto/test_compat.py holds it to that. Classes can contain themselves, so a pair of them that
is being compared counts as fitting meanwhile. Where it cannot know it says no: a map for a record, a uuid for a
str. The shapes of one side come from the peer: numbers out of range are its fault, what it nests is walked no
deeper than this side's own shape goes, and no pair of classes that does not fit is walked twice.
"""

from collections.abc import Iterator
from typing import Any

from .errors import ProtocolError
from .shape import (
    Array,
    Choice,
    Def,
    Field,
    Map,
    MethodShape,
    Number,
    Record,
    Row,
    Shape,
    Stream,
    Text,
    Union_,
)

Problem = str
_Pair = tuple[int, int, bool]
_INTS, _ARRAYS, _MAPS = "int", "array", "map"


def differences(client: MethodShape, server: MethodShape) -> list[Problem]:
    """Why the client cannot call the server's method, part by part; empty when it can.

    Raises ProtocolError for a shape that refers to what it does not have.
    """
    try:
        asked = Comparison(client.defs, server.defs, "client", "server")
        found = list(_parameters(asked, client.params, server.params))
        told = Comparison(server.defs, client.defs, "server", "client")
        return found + told.problems(server.result, client.result, "the result")
    except (IndexError, RecursionError) as e:
        raise ProtocolError(f"the shapes of a method make no sense: {e}") from e


def _parameters(asked: "Comparison", client: list[Field], server: list[Field]) -> Iterator[Problem]:
    for place, (mine, yours) in enumerate(zip(client, server, strict=False)):
        if mine.name != yours.name:
            yield f"parameter {place + 1} is {mine.name} at the client, {yours.name} at the server"
            return
        if yours.required and not mine.required:
            yield f"parameter {mine.name} may be missing at the client, not at the server"
        yield from asked.problems(mine.shape, yours.shape, f"parameter {mine.name}")
    yield from (f"the server has no parameter {p.name}" for p in client[len(server) :] if p.required)
    yield from (f"the client has no parameter {p.name}" for p in server[len(client) :] if p.required)


class Comparison:
    """What a writer writes, against what a reader reads."""

    def __init__(self, written: list[Def], read: list[Def], writer: str, reader: str) -> None:
        self._written, self._read = written, read
        self._writer, self._reader = writer, reader
        self._fitting: set[_Pair] = set()  # by what is known so far
        self._failed: dict[_Pair, list[Problem]] = {}

    def problems(self, written: Shape, read: Shape, where: str) -> list[Problem]:
        """Why not everything of shape `written` can be read as `read`; empty when it can."""
        if read == "any":
            return []
        if isinstance(written, Union_):
            return [p for member in written.of for p in self.problems(member, read, where)]
        readers: list[Shape] = read.of if isinstance(read, Union_) else [read]
        found = [
            self._one(written, reader, where, len(readers) > 1) for reader in self._meant(written, readers)
        ]
        if not found:
            return [self._differ(where, written, read)]
        # Of several classes one is meant; of several scalars of a kind msgspec applies the bounds of all.
        return min(found, key=len) if _is_class(written) else max(found, key=len)

    def _meant(self, written: Shape, readers: list[Shape]) -> list[Shape]:
        """The members of a union that what is written can be meant for, as its bytes tell."""
        family = _family(self._of(self._written, written))
        same = [r for r in readers if _family(self._of(self._read, r)) == family]
        if not same and family == _INTS:
            return [r for r in readers if _family(r) == "float"]
        if len(same) > 1 and family in (_ARRAYS, _MAPS):
            tag = _tag(self._of(self._written, written))
            return [r for r in same if _tag(self._of(self._read, r)) == tag]
        return same

    def _one(self, written: Shape, read: Shape, where: str, tagged: bool) -> list[Problem]:
        """problems(), for shapes that are no unions. tagged: a tag must be there for the reader to decide by."""
        parts = self._of(self._written, written), self._of(self._read, read)
        if not isinstance(written, int) or not isinstance(read, int):
            return self._parts(*parts, where, tagged)
        pair = written, read, tagged
        if pair in self._fitting:
            return []
        if pair in self._failed:
            return self._failed[pair]
        before = set(self._fitting)
        self._fitting.add(pair)
        found = self._parts(*parts, where, tagged)
        if found:  # and what was found to fit meanwhile may have done so by this assumption
            self._fitting = before
            self._failed[pair] = found[:1]
        return found

    def _parts(self, written: Shape | Def, read: Shape | Def, where: str, tagged: bool) -> list[Problem]:
        match written, read:
            case Record(), Record():
                return self._records(written, read, where, tagged)
            case Record(), Map():
                return self._record_as_map(written, read, where)
            case Row(), Row():
                return self._rows(written, read, where)
            case Row(), Array():
                size, least = len(written.items), sum(item.written for item in written.items)
                item = [p for f in written.items for p in self.problems(f.shape, read.item, f"{where}[]")]
                return item + self._sizes(least, size, read, where)
            case Array(), Array():
                item = self.problems(written.item, read.item, f"{where}[]")
                return item + self._sizes(written.least, written.most, read, where)
            case Map(), Map():
                item = self.problems(written.key, read.key, f"a key of {where}")
                item += self.problems(written.value, read.value, f"{where}[]")
                return item + self._sizes(written.least, written.most, read, where)
            case Stream(), Stream():
                return self.problems(written.item, read.item, f"an item of {where}")
        return [] if _fits(written, read) else [self._differ(where, written, read)]

    def _records(self, written: Record, read: Record, where: str, tagged: bool) -> list[Problem]:
        found = []
        theirs = {f.name: f for f in written.fields}
        if written.tag is not None:
            name, value = written.tag
            theirs[name] = Field(name, Choice([value]))
        mine = {f.name: f for f in read.fields}
        if read.tag is not None:
            name, value = read.tag
            mine[name] = Field(name, Choice([value]), required=tagged)
        for name, field in mine.items():
            sent = theirs.get(name)
            if field.required and (sent is None or not sent.written):
                how = "lacks it" if sent is None else "may leave it out"
                found.append(f"{where}.{name}: the {self._writer} {how}, the {self._reader} requires it")
            if sent is not None:
                found += self.problems(sent.shape, field.shape, f"{where}.{name}")
        if not read.open:
            for name in theirs.keys() - mine.keys():
                found.append(f"{where}.{name}: the {self._reader} forbids fields that it does not know")
        return found

    def _record_as_map(self, written: Record, read: Map, where: str) -> list[Problem]:
        found = self._sizes(sum(f.written for f in written.fields), len(written.fields), read, where)
        if written.tag is not None:
            return [*found, self._differ(where, written, read)]
        for field in written.fields:
            found += self.problems(Choice([field.name]), read.key, f"a key of {where}")
            found += self.problems(field.shape, read.value, f"{where}.{field.name}")
        return found

    def _rows(self, written: Row, read: Row, where: str) -> list[Problem]:
        found = []
        for place, (sent, item) in enumerate(zip(written.items, read.items, strict=False)):
            name = item.name or str(place)
            if item.required and not sent.written:
                found.append(
                    f"{where}.{name}: the {self._writer} may leave it out, the {self._reader} requires it"
                )
            found += self.problems(sent.shape, item.shape, f"{where}.{name}")
        beyond = read.items[len(written.items) :]
        if any(item.required for item in beyond) or (len(written.items) > len(read.items) and not read.open):
            what = f"an array of {len(written.items)} at the {self._writer}, of {len(read.items)}"
            found.append(f"{where}: {what} at the {self._reader}")
        return found

    def _sizes(self, least: int, most: int | None, read: Array | Map, where: str) -> list[Problem]:
        if least >= read.least and (read.most is None or (most is not None and most <= read.most)):
            return []
        return [f"{where}: its length at the {self._writer} goes beyond what the {self._reader} takes"]

    def _differ(self, where: str, written: Shape | Def, read: Shape | Def) -> Problem:
        shown = _shown(self._of(self._written, written)), _shown(self._of(self._read, read))
        return f"{where}: {shown[0]} at the {self._writer}, {shown[1]} at the {self._reader}"

    def _of(self, defs: list[Def], shape: Shape | Def) -> Any:
        """What a shape stands for."""
        if not isinstance(shape, int):
            return shape
        if not 0 <= shape < len(defs):
            raise IndexError(f"no class {shape} of {len(defs)}")
        return defs[shape]


def _family(shape: Any) -> str:
    """What a decoder can tell apart by its first byte, as far as a union may hold both."""
    match shape:
        case Number() | Text():
            return shape.kind
        case Choice():
            return "str" if isinstance(shape.values[0], str) else _INTS
        case Array() | Row():
            return _ARRAYS
        case Map() | Record():
            return _MAPS
        case Stream():
            return "stream"
    return str(shape).partition(" ")[0]  # "datetime with zone"


def _is_class(shape: Any) -> bool:
    return isinstance(shape, (int, Array, Row, Map))


def _tag(shape: Any) -> Any:
    """The tag of a class in a union."""
    match shape:
        case Record():
            return shape.tag
        case Row(items=[Field(shape=Choice(values=[value])), *_]):
            return value
    return None


def _fits(written: Any, read: Any) -> bool:
    """Whether a scalar is always one that the reader takes."""
    match written, read:
        case Choice(), Choice():
            return set(written.values) <= set(read.values)
        case Choice(), Number() | Text():
            return all(_within(value, read) for value in written.values)
        case Choice(), str():
            return read == "float" or _family(written) == read
        case _, str():
            exactly = isinstance(written, str) and " " in read
            same = written == read if exactly else _family(written) == read
            return same or (read == "float" and _family(written) == _INTS)
        case ((Number() | str()), Number()):
            mine = written if isinstance(written, Number) else Number(written)
            return _family(mine) in (read.kind, _INTS) and _inside(mine, read)
        case ((Text() | str()), Text()):
            mine_text = written if isinstance(written, Text) else Text(written)
            return (
                mine_text.kind == read.kind
                and mine_text.least >= read.least
                and (read.most is None or (mine_text.most is not None and mine_text.most <= read.most))
                and read.pattern in (None, mine_text.pattern)
            )
    return False


def _within(value: int | str, read: Number | Text) -> bool:
    """Whether the reader takes this one value."""
    if isinstance(value, str):
        return isinstance(read, Text) and _fits(Text("str", len(value), len(value)), read)
    exact = Number("int", value, value, multiple_of=value or None)
    return isinstance(read, Number) and _inside(exact, read)


def _inside(written: Number, read: Number) -> bool:
    """Whether the bounds of one are within those of the other."""
    low = written.ge if written.gt is None else written.gt
    high = written.le if written.lt is None else written.lt
    return (
        (read.ge is None or (low is not None and low >= read.ge))
        and (read.le is None or (high is not None and high <= read.le))
        and (read.gt is None or (low is not None and (low > read.gt or written.gt == read.gt)))
        and (read.lt is None or (high is not None and (high < read.lt or written.lt == read.lt)))
        and (read.multiple_of is None or _divides(read.multiple_of, written.multiple_of))
    )


def _divides(step: float, of: float | None) -> bool:
    if of is None:
        return False
    return step == of or (isinstance(step, int) and isinstance(of, int) and of % step == 0)


def _bounds(shape: Any) -> str:
    """Those of a shape that has some, in brackets. Any length is at least 0."""
    told = {
        n: getattr(shape, n, None)
        for n in ("ge", "gt", "le", "lt", "multiple_of", "least", "most", "pattern")
    }
    known = [f"{n} {v}" for n, v in told.items() if v is not None and (n, v) != ("least", 0)]
    return f" ({', '.join(known)})" if known else ""


def _shown(shape: Any) -> str:
    """A shape in a few words."""
    match shape:
        case Union_():
            return " or ".join(_shown(s) for s in shape.of[:4]) + (" …" if len(shape.of) > 4 else "")
        case Number() | Text():
            return shape.kind + _bounds(shape)
        case Choice():
            return (
                "one of " + ", ".join(map(repr, shape.values[:4])) + (" …" if len(shape.values) > 4 else "")
            )
        case Array() | Row():
            return "an array"
        case Map() | Record():
            return "a map"
        case Stream():
            return "a stream"
        case int():
            return "a class"
    return "null" if shape is None else str(shape)
