"""How an exception crosses: what a handler raises, as the body of a reply whose code is not OK.

OSError keeps its errno, so a FileNotFoundError arrives as one. The built-in types below, and those given to
register_error(), arrive as themselves with their arguments; anything else as RemoteError. Nothing is pickled:
only plain arguments (str, bytes, int, float, bool, None) travel, others as their str().
"""

import traceback
from typing import Any, TypeVar

import msgspec

from .errors import CallError, DeadlineExceeded, ProtocolError, RemoteError
from .method import encode
from .status import Status

_MESSAGE_MAX = 4096  # characters of a message, a type name, or one argument
_PLAIN = (str, bytes, int, float, bool, type(None))

E = TypeVar("E", bound=type[Exception])


class Failure(msgspec.Struct, omit_defaults=True):
    """The body of an error reply; a msgpack map, so that fields can be added."""

    type: str
    message: str = ""
    errno: int | None = None
    args: list[Any] | None = None
    traceback: str | None = None


_statuses: dict[str, Status] = {}
_types: dict[str, type[Exception]] = {}


def _name(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def register_error(kind: E, status: Status = Status.UNKNOWN) -> E:
    """Let `kind` cross as itself, rebuilt from its plain arguments as kind(*args). Usable as a decorator.

    Both sides must register it. Raises ValueError for a second type of the same qualified name.
    """
    name = _name(kind)
    if _types.get(name, kind) is not kind:
        raise ValueError(f"another type is registered as {name}")
    _types[name] = kind
    _statuses[name] = status
    return kind


for _kind, _status in {
    ValueError: Status.INVALID_ARGUMENT,
    TypeError: Status.INVALID_ARGUMENT,
    KeyError: Status.NOT_FOUND,
    IndexError: Status.OUT_OF_RANGE,
    LookupError: Status.NOT_FOUND,
    AttributeError: Status.UNKNOWN,
    ArithmeticError: Status.OUT_OF_RANGE,
    OverflowError: Status.OUT_OF_RANGE,
    ZeroDivisionError: Status.OUT_OF_RANGE,
    AssertionError: Status.INTERNAL,
    RuntimeError: Status.UNKNOWN,
    RecursionError: Status.RESOURCE_EXHAUSTED,
    NotImplementedError: Status.UNIMPLEMENTED,
    MemoryError: Status.RESOURCE_EXHAUSTED,
    EOFError: Status.OUT_OF_RANGE,
    OSError: Status.UNKNOWN,
}.items():
    register_error(_kind, _status)

_ERRNO_STATUS: dict[type[OSError], Status] = {
    FileNotFoundError: Status.NOT_FOUND,
    FileExistsError: Status.ALREADY_EXISTS,
    PermissionError: Status.PERMISSION_DENIED,
    TimeoutError: Status.DEADLINE_EXCEEDED,
}


def describe(error: BaseException, tracebacks: bool = False) -> tuple[Status, bytes]:
    """Status and reply body for what a handler raised. Never raises, whatever the exception does."""
    try:
        return _describe(error, tracebacks)
    except BaseException as e:  # a broken __str__, a hostile args: the caller still gets an answer
        name = _name(type(error))[:_MESSAGE_MAX]
        return Status.UNKNOWN, encode(Failure(name, f"and describing it raised {type(e).__name__}"))


def _describe(error: BaseException, tracebacks: bool) -> tuple[Status, bytes]:
    name = _name(type(error))
    trace = "".join(traceback.format_exception(error))[-16 * _MESSAGE_MAX :] if tracebacks else None
    if isinstance(error, CallError):
        failure = Failure(_name(CallError), str(error.message)[:_MESSAGE_MAX], traceback=trace)
        return Status(error.status) or Status.UNKNOWN, encode(failure)
    if isinstance(error, DeadlineExceeded):
        return Status.DEADLINE_EXCEEDED, encode(Failure(_name(DeadlineExceeded), str(error)[:_MESSAGE_MAX]))
    if isinstance(error, OSError) and error.errno is not None:
        status = _ERRNO_STATUS.get(type(error), Status.UNKNOWN)
        message = str(error.strerror)[:_MESSAGE_MAX]
        return status, encode(Failure(_name(OSError), message, errno=int(error.errno), traceback=trace))
    args = [a if isinstance(a, _PLAIN) else str(a) for a in error.args[:16]]
    args = [a[:_MESSAGE_MAX] if isinstance(a, (str, bytes)) else a for a in args]
    args = [str(a) if isinstance(a, int) and not -(2**63) <= a < 2**64 else a for a in args]
    failure = Failure(name[:_MESSAGE_MAX], str(error)[:_MESSAGE_MAX], args=args, traceback=trace)
    return _statuses.get(name, Status.UNKNOWN), encode(failure)


_decode = msgspec.msgpack.Decoder(Failure).decode


def rebuild(code: int, body: bytes) -> Exception:
    """The exception a reply with a code other than OK stands for. Raises ProtocolError for nonsense."""
    try:
        status = Status(code)
        failure = _decode(body)
    except (ValueError, msgspec.DecodeError) as e:
        raise ProtocolError(f"an error reply cannot be read: {e}") from e
    if failure.errno is not None:
        return OSError(failure.errno, failure.message)
    if failure.type == _name(CallError):
        return CallError(status, failure.message)
    if failure.type == _name(DeadlineExceeded):
        return DeadlineExceeded(failure.message)
    kind = _types.get(failure.type)
    if kind is not None and failure.args is not None:
        try:
            made: Exception = kind(*failure.args)
            return made
        except Exception:  # its constructor wants something else: still an answer
            pass
    return RemoteError(status, failure.message, failure.type, failure.traceback)
