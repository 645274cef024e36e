"""The hot path as builtins (hotpath/); who calls these says what the objects are."""

from collections.abc import Callable
from typing import Any

def channel(endpoint: int, body: int, verbs: tuple[int, ...], owners: object, /) -> object: ...
def caller(channel: object, /) -> Callable[[int, bytes], bytes | int]: ...
def stub(what: int, count: int, objects: tuple[Any, ...], /) -> Callable[..., Any]: ...
def stream(
    endpoint: int,
    window: int,
    verbs: tuple[int, int],
    received: tuple[int, int],
    early: int,
    encode: Callable[[Any], bytes],
    owners: object,
    /,
) -> tuple[Callable[[Any], tuple[int, bytes] | bool], Callable[[], bytes | int]]: ...
def server(count: int, objects: tuple[Any, ...], /) -> Callable[[int], int | tuple[int, int, Any]]: ...
