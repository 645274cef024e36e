"""One method of a service: its signature, and how its arguments and results become bytes (proto/rpc.md).

Encoders and decoders are made once, from the annotations. Arguments travel as one msgpack array in the order of
the parameters; trailing ones may be missing when they have defaults. A *bulk* parameter or result (bulk.py: bytes,
bytearray, memoryview, numpy arrays) travels as the frame's attachment, outside the codec: in the array its place
holds its slot, and several bulk parameters lie in the attachment one after the other.
"""

import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from .bulk import Bulk, bulk_of
from .errors import CallError, MisuseError, ProtocolError
from .fd import Fd
from .filled import Filled, Filling
from .items import ONCE, Items, is_asynchronous, item_type
from .items import encode as encode
from .rights import decoder, foreign, holds_fd
from .shape import Parameter, method_shape
from .status import Status


class Param(msgspec.Struct, frozen=True):
    """A parameter as the other side sees it."""

    name: str
    required: bool
    bulk: bool
    stream: bool = False


class Method:
    """A method of a contract. Immutable after construction: any thread may use it."""

    def __init__(self, owner: type, name: str, function: Callable[..., Any]) -> None:
        """Raises MisuseError for a signature that cannot be called over a wire."""
        self.name = name
        self.doc = inspect.getdoc(function)
        self.number = -1  # its place in the table, given by the contract
        where = f"{owner.__name__}.{name}"
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError as e:
            raise MisuseError(f"{where}: an annotation cannot be resolved: {e}") from e
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1:]
        for p in parameters:
            if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                raise MisuseError(f"{where}: *{p.name} cannot be typed on the wire")
            if p.name not in hints:
                raise MisuseError(f"{where}: parameter {p.name} has no annotation")
        if "return" not in hints:
            raise MisuseError(f"{where}: the result has no annotation")

        # Resolved, so that it reads the same whether or not annotations are strings in the source.
        shown = {name: None if hint is type(None) else hint for name, hint in hints.items()}
        self.signature = signature.replace(
            parameters=[p.replace(annotation=shown[p.name]) for p in parameters],
            return_annotation=shown["return"],
        )
        self.result_type = hints["return"]
        streams = [i for i, p in enumerate(parameters) if item_type(hints[p.name]) is not None]
        if len(streams) > 1 or any(parameters[i].default is not inspect.Parameter.empty for i in streams):
            raise MisuseError(f"{where}: one parameter may be a stream, without a default")
        self.stream_at = streams[0] if streams else -1
        self.stream_name = parameters[streams[0]].name if streams else ""
        self.stream_in = Items(item_type(hints[parameters[streams[0]].name]), where) if streams else None
        given = item_type(self.result_type)
        self.stream_out = None if given is None else Items(given, where)
        self.streaming = self.stream_in is not None or self.stream_out is not None
        self.asynchronous = inspect.iscoroutinefunction(function) or is_asynchronous(self.result_type)
        self._all = parameters
        parameters = [p for i, p in enumerate(parameters) if i != self.stream_at]
        self.types = [hints[p.name] for p in parameters]
        self._bulk = [_bulk_of(kind, where) for kind in self.types]
        self.params = tuple(
            Param(p.name, p.default is p.empty, kind is not None)
            for p, kind in zip(parameters, self._bulk, strict=True)
        )
        # With the stream in its place, as people count: for those who know the method from the handshake alone.
        self.all_types = [hints[p.name] for p in self._all]
        self.all_params = tuple(
            Param(
                p.name,
                p.default is p.empty,
                i != self.stream_at and bulk_of(kind) is not None,
                i == self.stream_at,
            )
            for i, (p, kind) in enumerate(zip(self._all, self.all_types, strict=True))
        )
        self.bulk_params = tuple((i, kind) for i, kind in enumerate(self._bulk) if kind is not None)
        wire = type(None) if self.stream_out else self.result_type
        self.result_bulk = _bulk_of(wire, where)
        self.bulk_result = self.result_bulk is not None
        self.bare_result = self.result_bulk is not None and self.result_bulk.bare
        self.keyword_only = tuple(p.name for p in self._all if p.kind is p.KEYWORD_ONLY)
        # Their codecs are others (rights.py), and their calls go another way than the quickest.
        self.fd_params = any(_holds_fd(kind, where) for kind in self.types)
        self.fd_result = _holds_fd(wire, where)
        if self.streaming and (self.fd_params or self.fd_result):
            raise MisuseError(f"{where}: a streaming call cannot hand descriptors over")
        self.decode_args = self._args_decoder(where)
        result = self.result_bulk.slot if self.result_bulk else wire
        self.decode_result: Callable[[bytes], Any] = self._decoder(result, where)
        self.shape = method_shape(
            [
                Parameter(p.name, p.default is p.empty, kind)
                for p, kind in zip(self._all, self.all_types, strict=True)
            ],
            self.result_type,
        )
        self.fingerprint = self.shape.fingerprint()

    # ---- codecs -----------------------------------------------------------------------------------------

    def _decoder(self, kind: Any, where: str) -> Callable[[bytes], Any]:
        try:
            return decoder(kind) if holds_fd(kind) else msgspec.msgpack.Decoder(kind).decode
        except TypeError as e:
            raise MisuseError(f"{where}: msgspec cannot decode {kind!r}: {e}") from e

    def _args_decoder(self, where: str) -> Callable[[bytes], tuple[Any, ...]]:
        types = [bulk.slot if bulk else kind for bulk, kind in zip(self._bulk, self.types, strict=True)]
        if all(p.required for p in self.params):
            exact: Any = tuple.__class_getitem__(tuple(types))
            return self._decoder(exact, where)
        # Only trailing ones can be missing from an array. A required keyword behind a default is passed by name,
        # and bind() then sends the defaults before it too.
        last = max((i for i, p in enumerate(self.params) if p.required), default=-1)
        fields: list[Any] = [
            (f"p{i}", kind) if i <= last else (f"p{i}", kind | msgspec.UnsetType, msgspec.UNSET)
            for i, kind in enumerate(types)
        ]
        arguments = msgspec.defstruct("Arguments", fields, array_like=True, forbid_unknown_fields=True)
        decode = self._decoder(arguments, where)

        def decode_some(body: bytes) -> tuple[Any, ...]:
            values = msgspec.structs.astuple(decode(body))
            return tuple(v for v in values if v is not msgspec.UNSET)

        return decode_some

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Arguments in the order of the parameters. Raises TypeError as a call of the function would.

        Defaults are sent only where a later argument is given: what a missing one means is the server's affair.
        """
        bound = self.signature.bind(*args, **kwargs)
        if not kwargs:
            return bound.args
        last = max(map(list(bound.signature.parameters).index, bound.arguments))
        bound.apply_defaults()
        return (*bound.args, *bound.kwargs.values())[: last + 1]

    def split(self, args: tuple[Any, ...]) -> tuple[Sequence[Any], bytes | bytearray | memoryview | Filling]:
        """Arguments for the array, and the attachment of the bulk ones among them. One copy when several; none yet
        when there is a Filled among them.

        Raises TypeError for what is none, such as a buffer with holes.
        """
        if not self.bulk_params:
            return args, b""
        slots = list(args)
        parts: list[Any] = []
        later = False
        for i, bulk in self.bulk_params:
            if i >= len(slots):
                continue
            if isinstance(part := slots[i], Filled):
                slots[i] = bulk.promised(part)
                later = True
            else:
                slots[i], part = bulk.pack(part)
            parts.append(part)
        if later:
            return slots, Filling(parts)
        return slots, parts[0] if len(parts) == 1 else b"".join(parts)

    def join(self, slots: tuple[Any, ...], attachment: memoryview) -> tuple[Any, ...]:
        """The reverse of split(), each bulk argument of the type its annotation says.

        Raises ProtocolError when lengths and attachment do not match; CallError (INVALID_ARGUMENT) for a slot
        that says what the signature does not.
        """
        args = list(slots)
        at = 0
        try:
            sizes = [(i, bulk, bulk.size(args[i])) for i, bulk in self.bulk_params if i < len(args)]
            announced = sum(size for _, _, size in sizes)
            if announced != len(attachment):
                raise ProtocolError(
                    f"{self.name}: {announced} attached bytes announced, {len(attachment)} came"
                )
            for i, bulk, size in sizes:
                args[i] = bulk.unpack(args[i], attachment[at : at + size])
                at += size
        except ValueError as e:
            raise CallError(Status.INVALID_ARGUMENT, f"{self.name}: {e}") from None
        return tuple(args)

    def pack_result(self, bulk: Bulk, result: Any) -> tuple[bytes, bytes | memoryview]:
        """Body and attachment of a bulk result. Raises TypeError for what is none."""
        slot, data = bulk.pack(result)
        return b"" if bulk.bare else encode(slot), data

    def unpack_result(self, bulk: Bulk, body: bytes, attachment: bytes | memoryview) -> Any:
        """The reverse of it. Raises ValueError when slot, attachment and signature do not match."""
        slot = len(attachment) if bulk.bare else self.decode_result(body)
        if bulk.size(slot) != len(attachment):
            raise ValueError(f"{bulk.size(slot)} attached bytes announced, {len(attachment)} came")
        return bulk.unpack(slot, attachment)

    def part(self, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
        """Arguments in the order of the parameters, without the one that is a stream; and that."""
        at = self.stream_at
        return (args, None) if at < 0 else ((*args[:at], *args[at + 1 :]), args[at])

    def joined(self, args: tuple[Any, ...], items: Any) -> tuple[Any, ...]:
        """The reverse of part(). Raises ProtocolError where an argument before the stream is missing."""
        at = self.stream_at
        if at > len(args):
            raise ProtocolError(f"{self.name}: {len(args)} arguments came, and the stream is number {at}")
        return args if at < 0 else (*args[:at], items, *args[at:])

    def call(self, handler: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Call `handler` with arguments in the order of the parameters."""
        if not self.keyword_only:
            return handler(*args)
        at = len(self._all) - len(self.keyword_only)
        return handler(*args[:at], **dict(zip(self.keyword_only, args[at:], strict=False)))

    # ---- what the other side compares -------------------------------------------------------------------

    def __str__(self) -> str:
        return f"{self.name}{self.signature}"


def _bulk_of(kind: Any, where: str) -> Bulk | None:
    try:
        return bulk_of(kind)
    except TypeError as e:
        raise MisuseError(f"{where}: {e}") from None


def _holds_fd(kind: Any, where: str) -> bool:
    if bulk_of(kind) is not None:
        return False
    try:
        found = foreign(kind)
    except TypeError as e:
        raise MisuseError(f"{where}: msgspec cannot decode {kind!r}: {e}") from e
    if not found.isdisjoint(ONCE):
        raise MisuseError(
            f"{where}: a stream is a whole parameter or result, such as Iterator[int], not {kind!r}"
        )
    return Fd in found
