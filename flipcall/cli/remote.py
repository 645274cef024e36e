"""A service seen without its class, for `call` and `inspect`: connecting, and what JSON cannot say."""

import hashlib
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

if TYPE_CHECKING:
    from ..dynamic import DynamicClient
    from ..handshake import Offered
    from ..liveness import Peer
    from ..service import Service

S = TypeVar("S", bound="Service")


@contextmanager
def connect(path: str, timeout: float, service: str = "") -> Iterator["DynamicClient"]:
    """The service at socket `path`, or a built-in one by its name; connecting, and then each call, may take
    `timeout` seconds.

    click.ClickException, naming the path, when there is nobody to connect to.
    """
    from ..dynamic import DynamicClient

    with _telling(path):
        there = DynamicClient(path, timeout=timeout, connect_timeout=timeout, service=service)
    with there:
        yield there


@contextmanager
def typed(service: "type[S]", path: str, **options: Any) -> "Iterator[S]":
    """A built-in service of the server at `path`, as a typed client. Raises as connect() does."""
    from ..client import connect as connect_typed

    with _telling(path):
        there = connect_typed(service, path, **options)
    with there:
        yield there


@contextmanager
def _telling(path: str) -> Iterator[None]:
    """click.ClickException, naming the path, for the OSError of a socket that cannot be connected to."""
    try:
        yield
    except OSError as e:
        if e.errno is None:
            raise
        raise click.ClickException(f"cannot connect to {path}: {e.strerror}") from e


def peer_of(there: "DynamicClient") -> "Peer":
    """The process that serves, by the kernel's word."""
    from ..channel import WindowChannel
    from ..liveness import Peer

    (channel,) = there._connection.pool.channels()
    assert isinstance(channel, WindowChannel)
    return Peer.of(channel.socket)


def fingerprint_of(methods: list["Offered"]) -> str:
    """A digest of the whole method table: equal for two servers whose services are typed alike."""
    lines = sorted(f"{method.name} {method.fingerprint}\n" for method in methods)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def arguments(method: "Offered", text: str) -> list[Any] | dict[str, Any]:
    """The user's JSON as arguments: an array in order, an object by name, anything else a single one.

    Bulk (bytes) arguments are base64 strings. click.UsageError for what is neither JSON nor base64.
    """
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as e:
        raise click.UsageError(f"the arguments are not JSON: {e}") from e
    if isinstance(value, dict):
        return {name: _unless_bulk(method, name, each) for name, each in value.items()}
    values = value if isinstance(value, list) else [value]
    names = [param.name for param in method.params]
    return [_unless_bulk(method, names[i] if i < len(names) else "", each) for i, each in enumerate(values)]


def with_stream(
    method: "Offered", given: list[Any] | dict[str, Any], items: Iterator[Any]
) -> list[Any] | dict[str, Any]:
    """The arguments with `items` for the parameter that is a stream. click.UsageError when there is none."""
    streams = [i for i, param in enumerate(method.params) if param.stream]
    if not streams:
        raise click.UsageError(f"{method.signature} has no parameter that is a stream")
    if isinstance(given, dict):
        return {**given, method.params[streams[0]].name: items}
    return [*given[: streams[0]], items, *given[streams[0] :]]


def lines(text: Iterable[str]) -> Iterator[Any]:
    """A value for each line that is not blank, as they come. click.UsageError for what is no JSON."""
    for line in text:
        if line.strip():
            try:
                yield msgspec.json.decode(line)
            except msgspec.DecodeError as e:
                raise click.UsageError(f"a line of stdin is not JSON: {e}") from e


def _unless_bulk(method: "Offered", name: str, value: Any) -> Any:
    """The value of parameter `name`, from base64 where it is bulk."""
    if not any(param.bulk and param.name == name for param in method.params):
        return value
    try:
        return b64decode(value, validate=True)
    except (ValueError, TypeError) as e:  # binascii.Error is a ValueError
        raise click.UsageError(f"{name} is bytes: give it as a base64 string") from e
