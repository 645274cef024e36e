"""A whole service as JSON Schema (draft 2020-12): `flipcall inspect --schema`, Reflection.schema().

    {"title": "Geo", "type": "object", "properties": {
        "distance": {"type": "object", "properties": {
            "arguments": {"type": "object", "properties": {"a": …, "b": …}, "required": […]},
            "result": …}}},
     "$defs": {"Point": …}}

Arguments are an object by name, as `flipcall call` takes them. What JSON has no word for is described as what
`flipcall call` makes of it: bytes as base64, a stream as an array.
"""

import inspect
from typing import Any

import msgspec

from .bulk import OCTETS, bulk_of
from .fd import Fd
from .method import Method
from .service import Contract
from .shape import stream_item

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{name}"


def service_schema(contract: Contract) -> dict[str, Any]:
    """The JSON Schema of all methods of a contract."""
    kinds = [stream_item(kind)[0] for m in contract.methods for kind in (*m.all_types, m.result_type)]
    described = [kind for kind in dict.fromkeys(map(_Hashable, kinds)) if _describable(kind.kind)]
    schemas, defs = msgspec.json.schema_components(
        [d.kind for d in described], ref_template=_REF, schema_hook=_schema_of_fd
    )
    known = dict(zip(described, schemas, strict=True))
    return _said(
        {
            "$schema": DIALECT,
            "title": contract.name,
            "description": contract.owner.__doc__ and inspect.cleandoc(contract.owner.__doc__),
            "type": "object",
            "properties": {m.name: _method(m, known) for m in contract.methods},
            "$defs": defs,
        }
    )


def _schema_of_fd(kind: type) -> dict[str, Any]:
    if kind is not Fd:
        raise NotImplementedError  # msgspec's way of saying that there is none
    return {"type": "integer", "description": "a file descriptor, which comes beside the message"}


class _Hashable:
    """A type as a key: some annotations (Annotated with a list in it) have no hash."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def __hash__(self) -> int:
        return hash(repr(self.kind))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and self.kind == other.kind


def _describable(kind: Any) -> bool:
    if bulk_of(kind) is not None:
        return False
    try:
        msgspec.json.schema(kind, schema_hook=_schema_of_fd)
    except (TypeError, ValueError):  # keys that are no strings, types of one's own
        return False
    return True


def _method(method: Method, known: dict[_Hashable, Any]) -> dict[str, Any]:
    parameters = method.signature.parameters.values()
    properties = {}
    for parameter, kind in zip(parameters, method.all_types, strict=True):
        properties[parameter.name] = _kind(kind, known)
        if parameter.default is not parameter.empty and (told := _default(parameter.default)) is not None:
            properties[parameter.name] = {**properties[parameter.name], "default": told[0]}
    arguments = {
        "type": "object",
        "properties": properties,
        "required": [p.name for p in method.all_params if p.required],
        "additionalProperties": False,
    }
    return _said(
        {
            "description": method.doc,
            "type": "object",
            "properties": {"arguments": arguments, "result": _kind(method.result_type, known)},
        }
    )


def _kind(kind: Any, known: dict[_Hashable, Any]) -> dict[str, Any]:
    item, streamed = stream_item(kind)
    if item in OCTETS:
        schema = {"type": "string", "contentEncoding": "base64"}
    else:
        schema = known.get(_Hashable(item)) or {"description": f"{item!r}, which JSON Schema cannot say"}
    return {"type": "array", "items": schema, "description": "a stream"} if streamed else schema


def _default(value: Any) -> tuple[Any] | None:
    """A default as JSON has it, or None for what has no JSON."""
    try:
        return (msgspec.to_builtins(value, str_keys=True),)
    except TypeError:
        return None


def _said(schema: dict[str, Any]) -> dict[str, Any]:
    """Without what nobody has said."""
    return {key: value for key, value in schema.items() if value is not None}
