"""A service seen without its class, through the handshake's method table: what `call` and `inspect` share."""

import binascii
import hashlib
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click
import msgspec

if TYPE_CHECKING:
    from ..dynamic import Dynamic


class Param(Protocol):
    """One parameter of an offered method."""

    @property
    def name(self) -> str: ...
    @property
    def required(self) -> bool: ...
    @property
    def bulk(self) -> bool: ...


class Offered(Protocol):
    """One method of the table."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def signature(self) -> str: ...
    @property
    def params(self) -> Sequence[Param]: ...
    @property
    def bulk_result(self) -> bool: ...


@contextmanager
def connect(path: str, timeout: float) -> Iterator["Dynamic"]:
    """The service at socket `path`; connecting and each call may take `timeout` seconds.

    click.ClickException, naming the path, when there is nobody to connect to.
    """
    from ..dynamic import connect_dynamic

    try:
        there = connect_dynamic(path, timeout=timeout, connect_timeout=timeout)
    except OSError as e:
        if e.errno is None:
            raise
        raise click.ClickException(f"cannot connect to {path}: {e.strerror}") from e
    with there:
        yield there


def fingerprint_of(methods: Sequence[Offered]) -> str:
    """A digest of the whole table: equal for two servers whose services are typed alike."""
    lines = sorted(f"{method.name} {method.fingerprint}\n" for method in methods)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def find(methods: Sequence[Offered], service: str, name: str) -> Offered:
    """The method called `name`. click.ClickException, naming what there is, when there is none."""
    for method in methods:
        if method.name == name:
            return method
    known = ", ".join(sorted(method.name for method in methods))
    raise click.ClickException(f"{service} has no method {name}; it has {known}")


def arguments(method: Offered, text: str) -> tuple[Any, ...]:
    """The user's JSON as positional arguments: an array in order, an object by name, else a single one.

    Bulk (bytes) arguments are base64 strings. click.UsageError for what does not fit the method.
    """
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as e:
        raise click.UsageError(f"the arguments are not JSON: {e}") from e
    if isinstance(value, dict):
        values = _by_name(method, value)
    else:
        values = list(value) if isinstance(value, list) else [value]
    required = sum(param.required for param in method.params)
    if not required <= len(values) <= len(method.params):
        raise click.UsageError(f"{method.signature} called with {len(values)} arguments")
    return tuple(_bulk(p, v) if p.bulk else v for p, v in zip(method.params, values, strict=False))


def _by_name(method: Offered, given: dict[str, Any]) -> list[Any]:
    """Arguments in the order of the parameters; what is left out must be left out to the end."""
    unknown = given.keys() - {param.name for param in method.params}
    if unknown:
        raise click.UsageError(f"{method.signature} has no parameter {', '.join(sorted(unknown))}")
    values: list[Any] = []
    skipped = ""
    for param in method.params:
        if param.name not in given:
            skipped = skipped or param.name
        elif skipped:
            raise click.UsageError(f"{method.signature}: {skipped} must be given too, as {param.name} is")
        else:
            values.append(given[param.name])
    return values


def _bulk(param: Param, value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return b64decode(value, validate=True)
        except binascii.Error:
            pass
    raise click.UsageError(f"{param.name} is bytes: give it as a base64 string")
