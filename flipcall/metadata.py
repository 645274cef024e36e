"""Metadata: what goes along with a call beside its arguments, str by str (proto/rpc.md, FC_FLAG_META).

A request that has some says so with a flag; its body is [metadata, the ordinary body]. Others know nothing of it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from .context import NO_METADATA, context
from .errors import MisuseError, ProtocolError
from .frame import FLAGS_SHIFT, META
from .interceptor import ClientCall, ClientInterceptor, ClientProceed
from .items import encode

WITH_METADATA: int = META << FLAGS_SHIFT  # beside a method's number
_decode = msgspec.msgpack.Decoder(tuple[dict[str, str], msgspec.Raw]).decode


def wrapped(metadata: Mapping[str, str], body: bytes) -> bytes:
    """The body of a request with metadata. Raises MisuseError for what is not str by str."""
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise MisuseError(f"metadata is str by str, not {key!r}: {value!r}")
    return encode((dict(metadata), msgspec.Raw(body)))


def unwrapped(body: bytes) -> tuple[Mapping[str, str], bytes]:
    """The reverse of wrapped(). Raises ProtocolError."""
    try:
        metadata, inner = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise ProtocolError(f"the metadata of a request cannot be read: {e}") from e
    return MappingProxyType(metadata), bytes(inner)


def forward(*keys: str) -> ClientInterceptor:
    """An interceptor for the calls that handlers make in turn: it passes these keys of the metadata that came on.

    Nothing is passed on by default: metadata may hold a caller's credentials.
    """

    def interceptor(call: ClientCall, proceed: ClientProceed) -> Any:
        try:
            came = context().metadata
        except MisuseError:  # no handler's
            came = NO_METADATA
        for key in keys:
            if key in came:
                call.metadata.setdefault(key, came[key])
        return proceed(call)

    return interceptor
