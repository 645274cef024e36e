"""Rights: the descriptors that came with one message (SCM_RIGHTS), until its decoder has claimed them.

In the msgpack body an Fd is its index among the message's descriptors. Decoding makes the Fd objects; whatever
goes wrong until the message has an owner closes all of them, and what nobody claimed (a field that this side does
not know, an index that was left out) is closed, too: a descriptor is in an Fd that somebody has, or it is closed.

msgspec calls a decoder's hook without saying for which message, so the message being decoded is the thread's
(decoding calls nobody who could switch threads, and nests at most).
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from . import unions
from .errors import CallError
from .fd import Fd
from .fds import SCM_MAX_FD, close_fds
from .status import Status

T = TypeVar("T")


class Rights:
    """See above. Owned by whoever handles the message; collected, it closes what is left. One thread at a time."""

    __slots__ = ("_claimed", "_left", "_lost")

    def __init__(self, fds: Iterable[int] = (), *, lost: bool = False) -> None:
        """fds: taken over. lost: there were more, which this process could not take (EMFILE)."""
        self._left = dict(enumerate(fds))
        self._claimed: list[Fd] = []
        self._lost = lost

    def claim(self, index: Any) -> Fd:
        """The descriptor of that index, once. Raises ValueError when there is none, or no more; CallError
        (RESOURCE_EXHAUSTED) when this process could not take them.
        """
        if self._lost:
            what = "too many open files (EMFILE): this side cannot take the descriptors that were sent"
            raise CallError(Status.RESOURCE_EXHAUSTED, what)
        fd = self._left.pop(index, None) if type(index) is int else None
        if fd is None:
            raise ValueError("Expected `Fd`, got no descriptor that came with the message")
        self._claimed.append(Fd(fd))
        return self._claimed[-1]

    def decode(self, decode: Callable[[bytes], T], body: bytes) -> T:
        """What `decode`, of decoder(), makes of a body of this message; when it raises, everything is closed.

        close() then ends what the message had to do with it, or revoke().
        """
        outer = getattr(_decoding, "rights", _NONE)
        _decoding.rights = self
        try:
            return decode(body)
        except BaseException:
            self.revoke()
            raise
        finally:
            _decoding.rights = outer

    def close(self) -> None:
        """The claimed ones are somebody's now; close the others. Idempotent."""
        self._claimed.clear()
        left = list(self._left.values())
        self._left.clear()
        close_fds(left)

    def revoke(self) -> None:
        """Close all of them: the message has failed before anybody has seen it. Idempotent."""
        claimed = self._claimed.copy()
        self.close()
        for fd in claimed:
            try:
                fd.close()
            except OSError:
                pass  # as close_fds

    def __del__(self) -> None:
        if getattr(self, "_left", None):
            self.close()


_decoding = threading.local()  # .rights: of the message this thread decodes
_NONE = Rights()
NO_RIGHTS = _NONE  # of a message without descriptors; nothing is ever put into it


def _claim(kind: type, value: Any) -> Any:
    if kind is not Fd:
        return value  # another type msgspec knows nothing of: it says what it expected
    rights: Rights = getattr(_decoding, "rights", _NONE)
    return rights.claim(value)


def decoder(kind: Any) -> Callable[[bytes], Any]:
    """A msgpack decoder for a type that holds Fd, to be given to Rights.decode(). Raises TypeError."""
    decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(kind, dec_hook=_claim).decode
    return decode


def pack(value: Any) -> tuple[bytes, list[Fd]]:
    """A value as msgpack, and the Fd objects in it, each as often as it is there.

    Raises MisuseError for a closed one, CallError (RESOURCE_EXHAUSTED) for more than a message carries, and what
    encoding raises.
    """
    fds: list[Fd] = []

    def index(value: Any) -> int:
        if not isinstance(value, Fd):
            raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")
        value.fileno()
        fds.append(value)
        return len(fds) - 1

    body = msgspec.msgpack.Encoder(enc_hook=index).encode(value)
    if len(fds) > SCM_MAX_FD:
        what = f"{len(fds)} descriptors in one message, the most is {SCM_MAX_FD}"
        raise CallError(Status.RESOURCE_EXHAUSTED, what)
    return body, fds


def holds_fd(kind: Any) -> bool:
    """Whether values of a type can have an Fd in them, at any depth. Raises TypeError as msgspec does."""
    return Fd in foreign(kind)


def foreign(kind: Any) -> set[type]:
    """The classes in a type, at any depth, that msgspec does not know. Raises TypeError as it does, and for a type
    that crashes it.
    """
    unions.check(kind)
    found: set[type] = set()
    seen: set[int] = set()
    todo: list[Any] = [msgspec.inspect.type_info(kind)]
    while todo:
        info = todo.pop()
        if id(info) in seen:
            continue
        seen.add(id(info))
        if isinstance(info, msgspec.inspect.CustomType):
            found.add(info.cls)
        elif isinstance(info, tuple):
            todo.extend(info)
        elif isinstance(info, (msgspec.inspect.Type, msgspec.inspect.Field)):
            todo.extend(getattr(info, name) for name in info.__struct_fields__)
    return found
