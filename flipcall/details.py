"""Details: the arguments of an exception of a registered type, which cross as its constructor annotates them.

    @flipcall.register_error
    class Rejected(Exception):
        def __init__(self, order: Order, reason: str) -> None:
            super().__init__(order, reason)

What msgspec can carry arrives as what the annotation says. Of others, and where there is no annotation, only str,
bytes, int, float, bool and None cross as they are, and the rest as its str().
"""

import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from . import rights
from .errors import MisuseError
from .method import encode

_PLAIN = (str, bytes, int, float, bool, type(None))
_MOST = 16  # arguments
_SIZE_MAX = 16384  # bytes of one that is typed


class Details:
    """Those of one type. Immutable: any thread may use it."""

    def __init__(self, kind: type[BaseException]) -> None:
        """Raises MisuseError for an annotation that cannot be resolved, or would crash msgspec."""
        self._types: list[Any] = []
        init: Any = kind.__init__
        if not inspect.isfunction(init):
            return
        where = f"{kind.__qualname__}.__init__"
        try:
            hints = typing.get_type_hints(init, include_extras=True)
        except NameError as e:
            raise MisuseError(f"{where}: an annotation cannot be resolved: {e}") from e
        for parameter in list(inspect.signature(init).parameters.values())[1:]:
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                self._types.append(_carried(hints.get(parameter.name, Any), where))

    def pack(self, args: Sequence[Any], plain: Callable[[Any], Any]) -> list[Any]:
        """What is sent of an exception's arguments; `plain` makes it of those that are not typed."""
        types = self._types + [Any] * len(args)
        return [_packed(a, kind, plain) for a, kind in zip(args[:_MOST], types, strict=False)]

    def unpack(self, args: Sequence[Any]) -> list[Any]:
        """The arguments again. Raises msgspec.ValidationError for what is of another type."""
        types = self._types + [Any] * len(args)
        return [msgspec.convert(a, kind) for a, kind in zip(args, types, strict=False)]


def _carried(kind: Any, where: str) -> Any:
    """The type, or Any where msgspec has no idea of it."""
    try:
        return Any if rights.foreign(kind) else kind
    except TypeError as e:
        raise MisuseError(f"{where}: msgspec cannot decode {kind!r}: {e}") from e


def _packed(argument: Any, kind: Any, plain: Callable[[Any], Any]) -> Any:
    if kind is Any or type(argument) in _PLAIN:
        return plain(argument)
    try:
        body = encode(argument)
    except Exception:  # not what was promised, or too deep: as without a type
        return plain(argument)
    return msgspec.Raw(body) if len(body) <= _SIZE_MAX else plain(argument)
