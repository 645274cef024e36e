"""flipcall.Fd in signatures: what arrives, who owns it, and that on every way out all are closed.

Warnings about unclosed ones are errors here.
"""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import gc
import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import flipcall
from flipcall import Fd

from .services import Courier, CourierServer, Parcel
from .waiting import wait_until

pytestmark = pytest.mark.filterwarnings(
    "error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning"
)
EXHAUSTED = flipcall.Status.RESOURCE_EXHAUSTED


@pytest.fixture
def courier_server() -> Iterator[CourierServer]:
    """The implementation; what it kept is closed at the end."""
    courier_server = CourierServer()
    yield courier_server
    for fd in courier_server.kept:
        fd.close()


@pytest.fixture
def courier(
    courier_server: CourierServer,
    serve: Callable[..., Any],
    connect: Callable[..., Courier],
    message_max: int,
) -> Courier:
    """A client of it, with one channel, so that a broken one would be noticed."""
    serve(courier_server, message_max=message_max)
    return connect(Courier, max_channels=1)


class Pipe:
    """A pipe whose ends are closed on the way out, unless they were given away."""

    def __init__(self) -> None:
        self.reader, self.writer = map(Fd, os.pipe())

    def at_end(self) -> bool:
        """Whether no writer is left anywhere."""
        os.set_blocking(self.reader.fileno(), False)
        try:
            return os.read(self.reader.fileno(), 1) == b""
        except BlockingIOError:
            return False


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """See Pipe."""
    pipe = Pipe()
    yield pipe
    pipe.reader.close()
    pipe.writer.close()


class Late:
    """A job that gives the pipe's writer away when it is let go."""

    def __init__(self, pipe: Pipe) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.pipe = pipe

    def __call__(self) -> list[Fd]:
        self.entered.set()
        self.go.wait(20)
        return [Fd(self.pipe.writer.detach())]


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """This process can open no further file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def same_file(a: Fd, b: Fd) -> bool:
    return os.path.sameopenfile(a.fileno(), b.fileno())


# ---- what arrives -------------------------------------------------------------------------------------------


def test_the_same_file_arrives(courier: Courier, pipe: Pipe) -> None:
    """There and back it is the same file under another number, closed when a program is executed; mine is mine."""
    with courier.same(pipe.writer) as back:
        assert same_file(back, pipe.writer)
        assert back.fileno() != pipe.writer.fileno()
        assert not os.get_inheritable(back.fileno())
        os.write(back.fileno(), b"a")
        assert os.read(pipe.reader.fileno(), 1) == b"a"


def test_in_structs_lists_and_unions(courier: Courier, pipe: Pipe) -> None:
    """At any depth, in the order of the message; None is none."""
    sent = Parcel("a", pipe.reader, [pipe.writer, pipe.reader])
    back = courier.parcel(sent)
    assert back.fd is not None
    with back.fd, back.more[0], back.more[1]:
        assert (back.name, len(back.more)) == ("a", 2)
        assert same_file(back.fd, pipe.reader)
        assert same_file(back.more[0], pipe.writer)
        assert same_file(back.more[1], pipe.reader)
        assert back.more[1].fileno() != back.fd.fileno()  # the same object twice, and each has one to close
    assert courier.parcel(Parcel("b")) == Parcel("b")
    assert courier.maybe() is courier.maybe(None) is False
    assert courier.maybe(pipe.reader) is True


def test_beside_bulk_bytes(courier: Courier, pipe: Pipe) -> None:
    """A message may have both, and a bulk result a descriptor for an argument."""
    data = os.urandom(60_000)
    os.set_blocking(pipe.writer.fileno(), False)
    assert courier.write(pipe.writer, data) == len(data)
    assert courier.read(pipe.reader, 60_000) == data


def test_a_handler_may_keep_one(courier: Courier, courier_server: CourierServer, pipe: Pipe) -> None:
    """What it has stored outlives the call."""
    courier.keep(pipe.writer)
    pipe.writer.close()
    assert not pipe.at_end()
    os.write(courier_server.kept[0].fileno(), b"later")
    assert os.read(pipe.reader.fileno(), 5) == b"later"


def test_the_server_keeps_no_copy_of_a_result(
    courier: Courier, courier_server: CourierServer, pipe: Pipe
) -> None:
    """Once the caller closes what it got, nobody has it: not a second longer than the reply takes."""
    courier_server.jobs["give"] = lambda: [Fd(pipe.writer.detach())]
    (got,) = courier.run("give")
    assert not pipe.at_end()
    got.close()
    wait_until(pipe.at_end)


def test_an_argument_needs_no_name(courier: Courier, pipe: Pipe) -> None:
    """One that was sent may be dropped: it is closed, without a warning."""
    assert courier.maybe(Fd(pipe.writer.detach()))
    gc.collect()
    wait_until(pipe.at_end)


def test_sockets_and_many_calls(courier: Courier) -> None:
    """Hundreds of calls leave nothing behind in between."""
    a, b = socket.socketpair()
    with a, b:
        for i in range(300):
            with Fd.dup(a) as fd, courier.same(fd) as back:
                os.write(back.fileno(), b"%03d" % i)
            assert b.recv(3) == b"%03d" % i
    assert courier.plain(1) == 1


# ---- how many -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [0, 1, 252, 253])
def test_as_many_as_a_message_carries(courier: Courier, pipe: Pipe, many: int) -> None:
    """253 in one message, which is the kernel's limit."""
    assert courier.count([pipe.reader] * many) == many


def test_too_many_to_send(courier: Courier, courier_server: CourierServer, pipe: Pipe) -> None:
    """One more is RESOURCE_EXHAUSTED, for an argument as for a result, and the channel goes on."""
    with pytest.raises(flipcall.CallError, match=r"254.*253") as caught:
        courier.count([pipe.reader] * 254)
    assert caught.value.status is EXHAUSTED
    courier_server.jobs["many"] = lambda: [pipe.reader] * 254
    with pytest.raises(flipcall.CallError, match=r"254.*253") as caught:
        courier.run("many")
    assert caught.value.status is EXHAUSTED
    assert courier.maybe(pipe.reader)


def test_no_room_for_an_argument(courier: Courier, pipe: Pipe) -> None:
    """A server that is out of descriptors answers that call so (EMFILE); the next one is as any other."""
    with no_more_descriptors(), pytest.raises(flipcall.CallError, match="EMFILE") as caught:
        courier.maybe(pipe.reader)
    assert caught.value.status is EXHAUSTED
    assert courier.plain(1) == 1
    assert courier.maybe(pipe.reader)


def test_no_room_for_a_result(courier: Courier, courier_server: CourierServer, pipe: Pipe) -> None:
    """A client that is out of descriptors fails that call so; the channel goes on."""
    courier_server.jobs["give"] = lambda: [pipe.reader, pipe.writer]
    with no_more_descriptors(), pytest.raises(flipcall.CallError, match="EMFILE") as caught:
        courier.run("give")
    assert caught.value.status is EXHAUSTED
    for fd in courier.run("give"):
        fd.close()


def test_room_for_some_of_them_only(courier: Courier, pipe: Pipe) -> None:
    """Those that did arrive are closed again."""
    with no_more_descriptors():
        pipe.writer.close()  # room for exactly one
        with pytest.raises(flipcall.CallError, match="EMFILE"):
            courier.count([pipe.reader] * 3)
    assert courier.count([pipe.reader] * 3) == 3


# ---- what goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 3, -1, 2**40, "a", b"", None, 1.5, [0]])
def test_what_is_no_descriptor(courier: Courier, pipe: Pipe, value: Any) -> None:
    """A number, or anything else, in an Fd's place is INVALID_ARGUMENT, never somebody's descriptor."""
    with pytest.raises(flipcall.CallError) as caught:
        courier.same(value)
    assert caught.value.status is flipcall.Status.INVALID_ARGUMENT
    with pytest.raises(flipcall.CallError) as caught:  # also next to a real one, whose index it guesses
        courier.count([pipe.reader, value])
    assert caught.value.status is flipcall.Status.INVALID_ARGUMENT
    assert courier.maybe(pipe.reader)


def test_an_argument_of_the_wrong_type_beside_one(courier: Courier, pipe: Pipe) -> None:
    """When the others do not decode, it is closed at the server before anybody has seen it."""
    with pytest.raises(flipcall.CallError) as caught:
        courier.count([pipe.writer], "three")  # type: ignore[arg-type]
    assert caught.value.status is flipcall.Status.INVALID_ARGUMENT
    pipe.writer.close()
    assert pipe.at_end()


def test_a_closed_one_is_not_sent(courier: Courier, courier_server: CourierServer, pipe: Pipe) -> None:
    """Closed, detached, or closed behind its back: the caller is told, nothing is sent, the channel goes on."""
    courier_server.jobs["closed"] = lambda: [closed]
    closed = Fd.dup(pipe.reader)
    closed.close()
    for _ in range(2):
        with pytest.raises(flipcall.MisuseError, match="closed"):
            courier.same(closed)
        with pytest.raises(flipcall.RemoteError, match="closed"):
            courier.run("closed")
    behind = Fd.dup(pipe.reader)
    os.close(behind.fileno())
    courier_server.jobs["behind"] = lambda: [behind]
    with pytest.raises(flipcall.MisuseError, match="Bad file descriptor"):
        courier.same(behind)
    with pytest.raises(flipcall.RemoteError, match="Bad file descriptor"):
        courier.run("behind")
    behind.detach()
    assert courier.maybe(pipe.reader)


def test_a_request_too_large_takes_none_along(courier: Courier, pipe: Pipe, message_max: int) -> None:
    """What is refused before it is sent leaves no descriptor under way, to be taken for the next call's."""
    with pytest.raises(flipcall.CallError) as caught:
        courier.write(pipe.writer, bytes(message_max + 4000))
    assert caught.value.status is EXHAUSTED
    pipe.writer.close()
    assert pipe.at_end()
    with courier.same(pipe.reader) as back:
        assert same_file(back, pipe.reader)


def test_a_handler_that_raises(courier: Courier, courier_server: CourierServer) -> None:
    """It is answered as always, and what it had opened is its own to close."""

    def fail() -> list[Fd]:
        raise FileNotFoundError(2, "no")

    courier_server.jobs["fail"] = fail
    with pytest.raises(FileNotFoundError):
        courier.run("fail")
    courier_server.jobs["none"] = list
    assert courier.run("none") == []


def test_a_late_answer_is_dropped_with_its_descriptors(
    courier: Courier, courier_server: CourierServer, pipe: Pipe
) -> None:
    """The caller gave up: what the handler returns then is nobody's, and closed before the next call."""
    other, late = Pipe(), Late(pipe)
    courier_server.jobs["late"] = late
    courier_server.jobs["next"] = lambda: [Fd(other.writer.detach())]
    with pytest.raises(flipcall.DeadlineExceeded):
        flipcall.with_options(courier, timeout=0.05).run("late")
    assert late.entered.wait(20)
    assert not pipe.at_end()
    late.go.set()
    (got,) = courier.run("next")  # over the same channel
    with got, other.reader:
        wait_until(pipe.at_end)
        assert not other.at_end()


def test_a_client_that_closes_with_answers_under_way(
    courier: Courier, courier_server: CourierServer, pipe: Pipe
) -> None:
    """Descriptors that nobody will ever take go with the channel."""
    late = Late(pipe)
    courier_server.jobs["late"] = late
    with pytest.raises(flipcall.DeadlineExceeded):
        flipcall.with_options(courier, timeout=0.05).run("late")
    assert late.entered.wait(20)
    courier.close()
    late.go.set()
    gc.collect()
    wait_until(pipe.at_end)


# ---- signatures ---------------------------------------------------------------------------------------------


def test_a_union_with_numbers_is_refused() -> None:
    """On the wire both are numbers."""

    class Bad(flipcall.Service):
        def f(self, x: Fd | int) -> None: ...

    class BadServer(Bad):
        pass

    with pytest.raises(flipcall.MisuseError):
        flipcall.Server(BadServer(), "/nowhere")


def test_streams_hand_none_over() -> None:
    """Neither as items nor beside them: it is said with the class."""
    from collections.abc import Iterator

    def give(self: Any) -> Any: ...
    def take(self: Any, fd: Any) -> Any: ...

    give.__annotations__ = {"return": Iterator[Fd]}
    take.__annotations__ = {"fd": Fd, "return": Iterator[int]}
    for function in (give, take):
        kind = type("Bad", (flipcall.Service,), {function.__name__: function})
        with pytest.raises(flipcall.MisuseError, match="descriptors"):
            flipcall.Server(kind(), "/nowhere")


def test_beside_a_message_in_parts(
    serve: Callable[..., Any], connect: Callable[..., Courier], pipe: Pipe
) -> None:
    """A message larger than the window has its descriptors with its first part, both ways."""
    serve(CourierServer(), message_max=1 << 20)
    courier = connect(Courier, message_max=1 << 20, max_channels=1)
    name = "n" * 200_000
    for _ in range(3):
        back = courier.parcel(Parcel(name, pipe.reader, [pipe.writer]))
        assert back.name == name
        assert back.fd is not None
        with back.fd, back.more[0]:
            assert same_file(back.fd, pipe.reader)
            assert same_file(back.more[0], pipe.writer)
    assert courier.write(pipe.writer, b"a") == 1
    with pytest.raises(flipcall.CallError) as caught:
        courier.parcel(Parcel("n" * 2_000_000, pipe.reader))
    assert caught.value.status is EXHAUSTED
    with courier.same(pipe.writer) as back_again:
        assert same_file(back_again, pipe.writer)
