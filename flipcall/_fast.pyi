"""The hot path's verbs as builtins (fast.c); flipcall/fast.py is who binds them."""

from collections.abc import Callable

def caller(verb: int, endpoint: int, body: int, owners: object, /) -> Callable[[int, bytes], bytes | int]: ...
def replier(
    verb: int, endpoint: int, body: int, owners: object, /
) -> Callable[[int, bytes], bytes | int]: ...
