"""Calls without the service's class: what the handshake's method table is enough for (flipcall call, inspect).

Arguments and results are plain values (what JSON has, plus bytes): the server checks the types.
"""

import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from ._core import lib
from .bulk import OCTETS
from .dialer import Connection
from .errors import MisuseError
from .handshake import Offered, Transport, Welcome
from .method import Method
from .options import checked
from .policy import WaitPolicy
from .stub import stub


class DynamicClient:
    """A client of whatever service is served at `path`, or of the one that `service` names. Any thread.

    Raises as flipcall.connect() does.
    """

    @checked()
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout: float | None = 30.0,
        connect_timeout: float = 5.0,
        transport: Transport = "window",
        window_size: int = lib.FC_WINDOW_DEFAULT,
        service: str = "",
    ) -> None:
        self._timeout = timeout
        self._connection = Connection(
            None,
            path,
            connect_timeout=connect_timeout,
            transport=transport,
            window_size=window_size,
            max_channels=1,
            policy=WaitPolicy.balanced(),
            service=service,
        )
        try:
            self.welcome: Welcome = self._connection.open()
        except BaseException:
            self.close()
            raise

    def method(self, name: str) -> tuple[int, Offered]:
        """Number and description of a method. Raises MisuseError when the server has none of that name."""
        for number, offered in enumerate(self.welcome.methods):
            if offered.name == name:
                return number, offered
        have = ", ".join(m.name for m in self.welcome.methods)
        raise MisuseError(f"{self.welcome.service} has no method {name} (it has {have})")

    def call(self, name: str, arguments: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        """Call method `name` with arguments by place or by name; its result as plain values.

        A bulk parameter takes bytes, a bulk result is bytes; a stream is any iterable but str, bytes and mappings,
        a result that is one a flipcall.streams.Stream. Raises MisuseError for arguments that do not fit the
        method's parameters, and for a method that returns descriptors; whatever the call raises.
        """
        number, offered = self.method(name)
        if offered.fd_result:
            raise MisuseError(f"{name} hands descriptors over, for which the service's class is needed")
        slots = _in_order(offered, arguments)
        for value, param in zip(slots, offered.params, strict=False):
            if param.bulk and not isinstance(value, OCTETS):
                raise MisuseError(f"{name}: {param.name} takes bytes")
            if param.stream and (
                not isinstance(value, Iterable) or isinstance(value, (str, Mapping, *OCTETS))
            ):
                raise MisuseError(f"{name}: {param.name} takes several values, one after the other")
        return stub(_method(offered, len(slots)), number, self._connection, self._timeout)(*slots)

    @property
    def peer_pid(self) -> int:
        """The server's process, 0 when it is not visible here."""
        return self._connection.peer_pid

    def close(self) -> None:
        """End the connection. Idempotent."""
        self._connection.pool.close()

    def __enter__(self) -> "DynamicClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def _method(offered: Offered, given: int) -> Method:
    """A method of that description, with the first `given` parameters, whose types are whatever comes."""
    kinds: dict[str, Any] = {
        p.name: bytes if p.bulk else Iterator[Any] if p.stream else Any for p in offered.params[:given]
    }
    result = bytes if offered.bulk_result else Iterator[Any] if offered.stream_result else Any
    parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ("self", *kinds)]

    def function() -> None: ...

    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {**kinds, "return": result}
    return Method(DynamicClient, offered.name, function)


def _in_order(offered: Offered, arguments: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    """`arguments` in the order of the parameters; trailing optional ones may be missing."""
    params = offered.params
    if not isinstance(arguments, Mapping):
        slots = list(arguments)
        named = {p.name: v for p, v in zip(params, slots, strict=False)}
        if len(slots) > len(params):
            raise MisuseError(f"{offered.signature} takes {len(params)} arguments, not {len(slots)}")
    else:
        named = dict(arguments)
        unknown = sorted(set(named) - {p.name for p in params})
        if unknown:
            raise MisuseError(f"{offered.signature} has no parameter {', '.join(unknown)}")
    missing = [p.name for p in params if p.required and p.name not in named]
    if missing:
        raise MisuseError(f"{offered.signature} also needs {', '.join(missing)}")
    last = max((i for i, p in enumerate(params) if p.name in named), default=-1)
    gaps = [p.name for p in params[: last + 1] if p.name not in named]
    if gaps:
        raise MisuseError(f"{offered.signature}: {', '.join(gaps)} must be given, as a later one is")
    return [named[p.name] for p in params[: last + 1]]
