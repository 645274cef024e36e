"""Reflection and the JSON Schema of a service."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import datetime
import enum
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jsonschema
import msgspec
import pytest

import flipcall
from flipcall.reflection import Reflection
from flipcall.schema import service_schema
from flipcall.service import contract_of
from tests.builtin.conftest import Desk, DeskServer


class Colour(enum.Enum):
    RED = "red"


class Node(msgspec.Struct):
    """A node of a tree."""

    value: Annotated[int, msgspec.Meta(ge=0)]
    children: list[Node] = []
    colour: Colour | None = None


class Everything(flipcall.Service):
    """All that a schema has to say."""

    def tree(self, root: Node, *, depth: int = 3, at: datetime.datetime | None = None) -> Node:
        """Cut it."""

    def bulk(self, data: bytes, inner: list[bytes]) -> memoryview: ...
    def numbers(self, by: dict[int, str], point: tuple[int, float] = (1, 2.0)) -> dict[int, Node]: ...
    def odd(self, keys: dict[tuple[int, int], str], default: Node = Node(1)) -> None: ...  # noqa: B008


class Streams(flipcall.Service):
    def scan(self, near: Node, points: Iterator[Node], blocks: int = 1) -> Iterator[bytes]: ...


class Opened(msgspec.Struct):
    size: int
    fd: flipcall.Fd | None = None


class Files(flipcall.Service):
    def open(self, name: str, log: flipcall.Fd | None = None) -> Opened: ...


def test_descriptors_are_said_to_be_some() -> None:
    """What stands beside them is described as ever."""
    schema = service_schema(contract_of(Files))
    jsonschema.Draft202012Validator.check_schema(schema)
    opened = schema["$defs"]["Opened"]["properties"]
    assert opened["size"] == {"type": "integer"}
    assert "file descriptor" in str(opened["fd"])


def test_the_schema_is_one() -> None:
    """It is valid by the metaschema, every reference leads somewhere, and it takes what fits and nothing else."""
    schema = service_schema(contract_of(Everything))
    jsonschema.Draft202012Validator.check_schema(schema)
    methods = schema["properties"]
    assert schema["title"] == "Everything"
    assert methods["tree"]["description"] == "Cut it."
    assert methods["tree"]["properties"]["arguments"]["required"] == ["root"]
    assert methods["tree"]["properties"]["arguments"]["properties"]["depth"] == {
        "type": "integer",
        "default": 3,
    }
    assert methods["bulk"]["properties"]["result"]["contentEncoding"] == "base64"
    valid = jsonschema.Draft202012Validator(schema)
    good = {"root": {"value": 1, "children": [{"value": 2}]}, "depth": 1}
    assert valid.is_valid({"tree": {"arguments": good, "result": {"value": 0, "colour": "red"}}})
    assert not valid.is_valid({"tree": {"arguments": {**good, "more": 1}}})
    assert not valid.is_valid({"tree": {"arguments": {"root": {"value": -1}}}})
    assert not valid.is_valid({"tree": {"result": {"value": 0, "children": [{}]}}})


def test_streams_are_arrays() -> None:
    """In the place of the parameter, and of the result."""
    schema = service_schema(contract_of(Streams))
    jsonschema.Draft202012Validator.check_schema(schema)
    scan = schema["properties"]["scan"]["properties"]
    assert list(scan["arguments"]["properties"]) == ["near", "points", "blocks"]
    assert scan["arguments"]["required"] == ["near", "points"]
    assert scan["arguments"]["properties"]["points"]["items"] == {"$ref": "#/$defs/Node"}
    assert scan["result"]["items"] == {"type": "string", "contentEncoding": "base64"}
    assert "description" not in schema


def test_reflection(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """The services, their methods with what is written about them, and their schemas."""
    serve(DeskServer())
    reflection = connect(Reflection)
    assert reflection.services()[0] == "Desk"
    add, *_, never = reflection.methods()
    assert (add.name, add.signature, add.doc) == ("add", "add(a: int, b: int = 2) -> int", "The sum.")
    assert never.fingerprint == contract_of(Desk).methods[3].fingerprint
    assert reflection.schema() == reflection.schema("Desk") == service_schema(contract_of(Desk))
    jsonschema.Draft202012Validator.check_schema(reflection.schema("flipcall.Statistics"))
    with pytest.raises(flipcall.CallError) as info:
        reflection.methods("Chair")
    assert info.value.status is flipcall.Status.NOT_FOUND


@pytest.mark.parametrize(
    ("factory", "known"),
    [
        (lambda peer: DeskServer(), False),
        (type("D", (DeskServer,), {"__init__": lambda self, peer: None}), True),
    ],
)
def test_a_service_made_for_each_client(
    serve: Callable[..., Any], connect: Callable[..., Any], factory: Any, known: bool, kind: str
) -> None:
    """What a class makes is known, what a function makes only when it has made one, and from then on."""
    if "loop server" in kind and known:
        pytest.skip("the adapter that runs these handlers in a loop makes a function of a class")
    serve(factory)
    reflection = connect(Reflection)
    if not known:
        with pytest.raises(flipcall.CallError) as info:
            reflection.methods()
        assert info.value.status is flipcall.Status.UNAVAILABLE
        connect(Desk).close()
    assert len(reflection.methods()) == 4
