"""Whatever a handler raises, the caller gets an answer, and the channel goes on."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import datetime
import errno
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

import flipcall

from .services import Desk, DeskServer

Jobs = dict[str, Callable[[], Any]]


class Known(Exception):
    """Registered: crosses as itself."""


class Unknown(Exception):
    """Not registered."""


class Mute(Exception):
    """Cannot even be described."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Picky(Exception):
    """Registered, but cannot be made again from its arguments."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a}{b}")


class Order(msgspec.Struct):
    """A detail."""

    number: int
    due: datetime.date
    lines: dict[str, list[Decimal]] = {}


class Rejected(Exception):
    """Registered, with details."""

    def __init__(
        self, order: Order, reason: str, more: frozenset[int] = frozenset(), note: object = None
    ) -> None:
        super().__init__(order, reason, more, note)


flipcall.register_error(Rejected, flipcall.Status.FAILED_PRECONDITION)
flipcall.register_error(Known, flipcall.Status.ABORTED)
flipcall.register_error(Picky)


def raiser(error: BaseException) -> Callable[[], Any]:
    """A handler that raises `error`."""

    def job() -> Any:
        raise error

    return job


def caught(desk: Desk, jobs: Jobs, error: BaseException) -> Exception:
    """What the caller gets for a handler that raises `error`; the channel is seen to go on."""
    jobs["raise"] = raiser(error)
    with pytest.raises(Exception) as info:  # noqa: PT011 - which one is the test's question
        desk.run("raise")
    assert desk.add(1) == 11
    return info.value


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", 3, 2.5, None, True, b"raw"),
        KeyError("key"),
        IndexError(),
        TypeError("t"),
        LookupError("l"),
        AttributeError("a"),
        ZeroDivisionError("division by zero"),
        OverflowError("o"),
        AssertionError("no"),
        RuntimeError("r"),
        RecursionError("deep"),
        NotImplementedError("not yet"),
        MemoryError(),
        EOFError("end"),
        Known("k", 1),
        FileNotFoundError("no errno"),
        TimeoutError("slow"),
        ConnectionError("gone"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_registered_types_arrive_as_themselves(desk: Desk, jobs: Jobs, error: Exception) -> None:
    """Built-in and registered exceptions keep their type and their plain arguments."""
    got = caught(desk, jobs, error)
    assert type(got) is type(error)
    assert got.args == error.args


def test_typed_details(desk: Desk, jobs: Jobs) -> None:
    """Arguments arrive as what the constructor's annotations say, structs too; what has none, as its str()."""
    order = Order(7, datetime.date(2026, 11, 25), {"a": [Decimal("1.50")]})
    got = caught(desk, jobs, Rejected(order, "late", frozenset({1, 2}), note=Path("/x")))
    assert type(got) is Rejected
    assert got.args == (order, "late", frozenset({1, 2}), "/x")


@pytest.mark.parametrize(
    "wrong",
    [Rejected("no order", "late"), Rejected(Order("seven", None), "late"), Rejected(Order(7, 8), object())],  # type: ignore[arg-type]
    ids=["another type", "another field", "not to be encoded"],
)
def test_details_that_are_not_what_they_should_be(desk: Desk, jobs: Jobs, wrong: Exception) -> None:
    """Of another type than annotated they are not for the constructor: a RemoteError with the words."""
    got = caught(desk, jobs, wrong)
    assert isinstance(got, flipcall.RemoteError)
    assert got.type_name.endswith(".Rejected")


def test_details_that_are_too_large(desk: Desk, jobs: Jobs) -> None:
    """They do not cross, and the caller is told all the same."""
    order = Order(7, datetime.date(2026, 11, 25), {"a": [Decimal(1)] * 20_000})
    got = caught(desk, jobs, Rejected(order, "late"))
    assert isinstance(got, flipcall.RemoteError)


def test_annotations_that_cannot_be_used() -> None:
    """They are told when the type is registered."""

    class Crash(Exception):
        def __init__(self, a: Annotated[int, msgspec.Meta(gt=0)] | tuple[int]) -> None: ...

    class Lost(Exception):
        def __init__(self, a: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821

    for kind, what in ((Crash, "crashes msgspec"), (Lost, "Nowhere")):
        with pytest.raises(flipcall.MisuseError, match=what):
            flipcall.register_error(kind)


@pytest.mark.parametrize(
    "number", [errno.ENOENT, errno.EACCES, errno.EEXIST, errno.EXDEV, errno.ETIMEDOUT, 4095]
)
def test_oserror_keeps_its_errno(desk: Desk, jobs: Jobs, number: int) -> None:
    """An OSError arrives with its errno, as the type that goes with it."""
    got = caught(desk, jobs, OSError(number, "said so"))
    assert isinstance(got, OSError)
    assert type(got) is type(OSError(number, ""))
    assert (got.errno, got.strerror) == (number, "said so")


@pytest.mark.parametrize("names", [("/some/file",), ("/some/file", None, "/other")])
def test_oserror_keeps_its_file_names(desk: Desk, jobs: Jobs, names: tuple[Any, ...]) -> None:
    """It reads here as it does there."""
    raised = OSError(errno.EXDEV, "said so", *names)
    got = caught(desk, jobs, raised)
    assert isinstance(got, OSError)
    assert (got.filename, got.filename2) == (raised.filename, raised.filename2)
    assert (got.args, str(got)) == (raised.args, str(raised))


@pytest.mark.parametrize(
    ("name", "arrives"),
    [
        ("größer", "größer"),
        ("lone \udcff", "lone \udcff"),
        (b"raw \xff", "raw \udcff"),
        (Path("/a/path"), "/a/path"),
        ("", ""),
        ("with\0zero", "with\0zero"),
        ("x" * 4096, "x" * 4096),
        ("ü" * 2049, None),
        ("no name \ud800", None),
        (7, None),
        (object(), None),
        (None, None),
    ],
)
def test_file_names_arrive_whole_or_not_at_all(
    desk: Desk, jobs: Jobs, name: Any, arrives: str | None
) -> None:
    """A str, as os.fsdecode() makes one; what names no file, or one longer than the kernel takes, is left out."""
    got = caught(desk, jobs, FileNotFoundError(errno.ENOENT, "no", name))
    assert isinstance(got, FileNotFoundError)
    assert (got.errno, got.filename, got.filename2) == (errno.ENOENT, arrives, None)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Unknown("what happened"), "what happened"),
        (Picky(1, 2), "12"),
        (Mute(), "describing it raised RuntimeError"),
        (SystemExit(3), "3"),
        (KeyboardInterrupt("key"), "key"),
        (GeneratorExit(), ""),
        (StopIteration(4), "4"),
        (BaseException("base"), "base"),
        (Unknown("lone \udcff surrogate"), "lone \\udcff surrogate"),
        (Unknown("x" * 100_000), "x" * 1000),
        (Unknown(10**30, object, [1]), "10000"),
        (type("Odd", (Exception,), {"__module__": Mute()})("odd module"), ""),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "bad"),
    ],
    ids=lambda e: type(e).__name__ if isinstance(e, BaseException) else "",
)
def test_other_types_arrive_as_remote_error(
    desk: Desk, jobs: Jobs, coroutine_handlers: bool, error: BaseException, says: str
) -> None:
    """Anything else, however odd, is a RemoteError with its name and words, and ends no channel."""
    if coroutine_handlers and isinstance(error, (StopIteration, GeneratorExit)):
        pytest.skip("a coroutine raises neither of itself (PEP 479)")
    got = caught(desk, jobs, error)
    assert isinstance(got, flipcall.RemoteError)
    assert says in got.message
    assert got.traceback is None
    assert type(error).__name__ in got.type_name or not says


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_exception_groups(desk: Desk, jobs: Jobs) -> None:
    """A group is an answer, too, also one of exceptions that end programs."""
    got = caught(desk, jobs, BaseExceptionGroup("both", [SystemExit(), ValueError()]))  # type: ignore[name-defined]  # noqa: F821
    assert isinstance(got, flipcall.RemoteError)
    assert "both" in got.message


def test_a_handler_chooses_the_status(desk: Desk, jobs: Jobs) -> None:
    """CallError raised by a handler arrives with its status; OK is not one to raise."""
    got = caught(desk, jobs, flipcall.CallError(flipcall.Status.DATA_LOSS, "lost"))
    assert isinstance(got, flipcall.CallError)
    assert (got.status, got.message) == (flipcall.Status.DATA_LOSS, "lost")
    fine = caught(desk, jobs, flipcall.CallError(flipcall.Status.OK, "fine"))
    assert isinstance(fine, flipcall.CallError)
    assert fine.status is flipcall.Status.UNKNOWN
    assert isinstance(caught(desk, jobs, flipcall.CallError(99, "odd")), flipcall.CallError)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        flipcall.ProtocolError("another server lied", 1),
        flipcall.PeerDiedError("another server died", 1),
        flipcall.ClosedError("another client was closed"),
        flipcall.RemoteError(flipcall.Status.ABORTED, "from further on", "elsewhere.Type"),
        flipcall.MisuseError("wrong"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_errors_of_a_call_the_handler_made(desk: Desk, jobs: Jobs, error: Exception) -> None:
    """What went wrong between the handler and a server of its own is an answer: this channel is well."""
    got = caught(desk, jobs, error)
    assert isinstance(got, flipcall.RemoteError)
    assert got.type_name.endswith(getattr(error, "type_name", type(error).__name__))


def test_deadline_exceeded_in_the_handler(desk: Desk, jobs: Jobs) -> None:
    """A deadline that passed further on arrives as one, and the channel is not taken for a waiting one."""
    assert isinstance(caught(desk, jobs, flipcall.DeadlineExceeded("further on")), flipcall.DeadlineExceeded)


@pytest.mark.parametrize("result", [object(), {1, object()}, 10**30, "\udcff"])
def test_a_result_that_cannot_be_sent(desk: Desk, jobs: Jobs, result: Any) -> None:
    """A result msgspec cannot encode is answered with an error."""
    jobs["odd"] = lambda: result
    with pytest.raises((TypeError, ValueError, OverflowError, flipcall.CallError)):
        desk.run("odd")
    assert desk.add(1) == 11


def test_a_result_without_end(desk: Desk, jobs: Jobs) -> None:
    """A list that contains itself is answered with an error."""
    endless: list[Any] = []
    endless.append(endless)
    jobs["endless"] = lambda: endless
    with pytest.raises(RecursionError):
        desk.run("endless")
    assert desk.add(1) == 11


def test_tracebacks_when_asked_for(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """A server that sends tracebacks sends them, with the line that raised."""
    server = DeskServer()
    server.jobs["raise"] = raiser(Unknown("here"))
    serve(server, tracebacks=True)
    with pytest.raises(flipcall.RemoteError) as info:
        connect(Desk).run("raise")
    assert info.value.traceback is not None
    assert "raise error" in info.value.traceback
    assert "here" in str(info.value)


def test_a_long_error_in_a_small_window(serve: Callable[..., Any], connect: Callable[..., Any]) -> None:
    """Where an error does not fit, its details are cut, its type stays."""
    server = DeskServer()
    server.jobs["raise"] = raiser(ValueError("x" * 4000, "y" * 4000))
    serve(server, window_max=4096, tracebacks=True)
    desk = connect(Desk, window_size=4096)
    with pytest.raises(ValueError, match="xxx"):
        desk.run("raise")
    assert desk.add(1) == 11


def test_a_second_type_of_the_same_name_is_refused() -> None:
    """Two types cannot cross under one name."""
    assert flipcall.register_error(Known) is Known
    with pytest.raises(ValueError, match="Known"):
        flipcall.register_error(type("Known", (Exception,), {"__module__": __name__}))
    flipcall.register_error(Known, flipcall.Status.ABORTED)
