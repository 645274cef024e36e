"""How an exception crosses: what a handler raises, as the body of a reply whose code is not OK.

OSError keeps its errno, so a FileNotFoundError arrives as one, and its file names. The built-in types below, and
those given to register_error(), arrive as themselves with their arguments; anything else as RemoteError. Nothing
is pickled: plain arguments (str, bytes, int, float, bool, None) travel, those that the type's constructor
annotates (details.py), and others as their str().
"""

import os
import traceback
from typing import Any, TypeVar

import msgspec

from .details import Details
from .errors import (
    CallError,
    ClosedError,
    DeadlineExceeded,
    PeerDiedError,
    ProtocolError,
    RemoteError,
)
from .method import encode
from .status import Status

_MESSAGE_MAX = 4096  # characters of a message, a type name, or one argument
_TRACEBACK_MAX = 16384  # characters of a traceback: its end, which says most
_LEAST = 256  # characters of a message that is left in the tightest of windows

E = TypeVar("E", bound=type[Exception])


class Failure(msgspec.Struct, omit_defaults=True):
    """The body of an error reply; a msgpack map, so that fields can be added."""

    type: str
    message: str = ""
    errno: int | None = None
    args: list[Any] | None = None
    traceback: str | None = None
    filename: bytes | None = None  # as the kernel has it
    filename2: bytes | None = None


_statuses: dict[str, Status] = {}
_types: dict[str, type[Exception]] = {}
_details: dict[str, Details] = {}
_UNTYPED = Details(Exception)


def _name(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def register_error(kind: E, status: Status = Status.UNKNOWN) -> E:
    """Let `kind` cross as itself, rebuilt from its arguments as kind(*args). Usable as a decorator.

    Arguments are typed as the constructor annotates them: structs and all else that msgspec carries arrive as what
    they are. Without an annotation only plain ones do (str, bytes, int, float, bool, None), others as their str().
    Both sides must register the type. Raises ValueError for a second type of the same qualified name, MisuseError
    for annotations that cannot be used.
    """
    name = _name(kind)
    if _types.get(name, kind) is not kind:
        raise ValueError(f"another type is registered as {name}")
    details = Details(kind)
    _types[name], _details[name], _statuses[name] = kind, details, status
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
    # Those with an errno cross as OSError, which makes the right type of it again. Without one, by name:
    BlockingIOError: Status.UNAVAILABLE,
    ConnectionError: Status.UNAVAILABLE,
    FileExistsError: Status.ALREADY_EXISTS,
    FileNotFoundError: Status.NOT_FOUND,
    IsADirectoryError: Status.FAILED_PRECONDITION,
    NotADirectoryError: Status.FAILED_PRECONDITION,
    PermissionError: Status.PERMISSION_DENIED,
    TimeoutError: Status.DEADLINE_EXCEEDED,
}.items():
    register_error(_kind, _status)

_statuses["asyncio.exceptions.CancelledError"] = (
    Status.CANCELLED
)  # by name: only who has a loop imports asyncio

_ERRNO_STATUS: dict[type[OSError], Status] = {
    FileNotFoundError: Status.NOT_FOUND,
    FileExistsError: Status.ALREADY_EXISTS,
    PermissionError: Status.PERMISSION_DENIED,
    TimeoutError: Status.DEADLINE_EXCEEDED,
}


def readable(text: object, most: int = _MESSAGE_MAX) -> str:
    """At most `most` characters of str(text), which UTF-8 can carry: a file name may hold lone surrogates."""
    return str(text)[:most].encode("utf-8", "backslashreplace").decode()


def describe(error: BaseException, tracebacks: bool = False) -> tuple[Status, bytes]:
    """Status and reply body for what a handler raised. Never raises, whatever the exception does."""
    try:
        return _describe(error, tracebacks)
    except BaseException as e:  # a broken __str__, a hostile args: the caller still gets an answer
        try:
            name = readable(_name(type(error)))
        except BaseException:
            name = "?"
        return Status.UNKNOWN, encode(Failure(name, f"and describing it raised {readable(type(e).__name__)}"))


def status_of(error: BaseException) -> Status:
    """The status that stands for an exception, for those who count: of a lost server UNAVAILABLE."""
    if isinstance(error, CallError):
        return Status(error.status) or Status.UNKNOWN
    if isinstance(error, (ClosedError, PeerDiedError)):
        return Status.UNAVAILABLE
    if isinstance(error, DeadlineExceeded):
        return Status.DEADLINE_EXCEEDED
    if isinstance(error, OSError) and error.errno is not None:
        return _ERRNO_STATUS.get(type(error), Status.UNKNOWN)
    return _statuses.get(_name(type(error)), Status.UNKNOWN)


def _describe(error: BaseException, tracebacks: bool) -> tuple[Status, bytes]:
    name = readable(_name(type(error)))
    trace = None
    if tracebacks:
        text = "".join(traceback.format_exception(error))
        trace = readable(text[-_TRACEBACK_MAX:], _TRACEBACK_MAX)
    if isinstance(error, CallError):
        if isinstance(error, RemoteError):  # from a call the handler made: pass it on as what it is
            type_name = readable(error.type_name)
            return error.status, encode(Failure(type_name, readable(error.message), traceback=trace))
        failure = Failure(_name(CallError), readable(error.message), traceback=trace)
        return Status(error.status) or Status.UNKNOWN, encode(failure)
    if isinstance(error, DeadlineExceeded):
        return Status.DEADLINE_EXCEEDED, encode(Failure(_name(DeadlineExceeded), readable(error)))
    if isinstance(error, OSError) and error.errno is not None:
        status = _ERRNO_STATUS.get(type(error), Status.UNKNOWN)
        message = readable(error.strerror)
        failure = Failure(_name(OSError), message, errno=int(error.errno), traceback=trace)
        failure.filename, failure.filename2 = _file_name(error.filename), _file_name(error.filename2)
        return status, encode(failure)
    args = _details.get(name, _UNTYPED).pack(error.args, _plain)
    failure = Failure(name, readable(error), args=args, traceback=trace)
    return _statuses.get(name, Status.UNKNOWN), encode(failure)


def _file_name(name: Any) -> bytes | None:
    """A file's name as it travels: whole, or not at all where it is longer than any the kernel takes, or none of a
    file. A descriptor's number says nothing elsewhere.
    """
    if not isinstance(name, (str, bytes, os.PathLike)):
        return None
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:
        return None
    return raw if len(raw) <= _MESSAGE_MAX else None


def _plain(argument: Any) -> Any:
    if isinstance(argument, bytes):
        return argument[:_MESSAGE_MAX]
    if argument is None or isinstance(argument, (bool, float)):
        return argument
    if isinstance(argument, int) and -(2**63) <= argument < 2**64:
        return argument
    return readable(argument)


def shortened(body: bytes, room: int) -> bytes:
    """An error reply's body cut down towards `room` bytes: the type and errno stay, the details go first.

    Of the details a file's name goes whole: a part of one is another file's.
    """
    failure = _decode(body)
    failure.traceback = None
    if len(encode(failure)) > room:
        failure.filename = failure.filename2 = None
        failure.args = [failure.message[:_LEAST]] if failure.args else None
        failure.message = failure.message[:_LEAST]
        failure.type = failure.type[:_LEAST]
    return encode(failure)


_decode = msgspec.msgpack.Decoder(Failure).decode


def _os_error(errno: int, message: str, name: bytes | None, name2: bytes | None) -> OSError:
    """The type that has this errno. Names are str, as os.fsdecode() makes them. Marked, so that retry.py can tell
    it from one of this side's own.
    """
    error = OSError(errno, message)
    vars(error)["remote"] = True
    if name is not None:
        error.filename = os.fsdecode(name)
    if name2 is not None:
        error.filename2 = os.fsdecode(name2)
    return error


def rebuild(code: int, body: bytes) -> Exception:
    """The exception a reply with a code other than OK stands for. Raises ProtocolError for nonsense."""
    try:
        status = Status(code)
        failure = _decode(body)
    except (ValueError, msgspec.DecodeError, RecursionError) as e:
        raise ProtocolError(f"an error reply cannot be read: {e}") from e
    if failure.errno is not None:
        return _os_error(failure.errno, failure.message, failure.filename, failure.filename2)
    if failure.type == _name(CallError):
        return CallError(status, failure.message)
    if failure.type == _name(DeadlineExceeded):
        return DeadlineExceeded(failure.message)
    kind = _types.get(failure.type)
    if kind is not None and failure.args is not None:
        try:
            made: Exception = kind(*_details[failure.type].unpack(failure.args))
            return made
        except Exception:  # its constructor wants something else: still an answer
            pass
    return RemoteError(status, failure.message, failure.type, failure.traceback)
