"""Fd by itself: one descriptor, closed once, by whoever has it."""

from __future__ import annotations

import copy
import gc
import itertools
import os
import pickle
import socket
import sys
import warnings
from typing import Any

import msgspec
import pytest

from flipcall import CallError, ClosedError, Fd, MisuseError, ProtocolError
from flipcall.control import MESSAGE, Inbox, drop, hand_over, take
from flipcall.rights import NO_RIGHTS, Rights, decoder, holds_fd, pack


def opened() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_it_owns_the_number() -> None:
    """Closed by close() and by `with`, once; afterwards every use says so."""
    number = opened()
    with Fd(number) as fd:
        assert fd.fileno() == number
        assert not fd.closed
    assert not is_open(number)
    assert fd.closed
    fd.close()
    for use in (fd.fileno, fd.detach, fd.__enter__):
        with pytest.raises(MisuseError, match="closed"):
            use()
    assert repr(fd) == "Fd(closed)"


def test_detached_it_is_the_callers() -> None:
    """The number is given up and stays open."""
    number = opened()
    fd = Fd(number)
    assert fd.detach() == number
    assert fd.closed
    fd.close()
    assert is_open(number)
    os.close(number)


def test_dup_leaves_the_source_alone() -> None:
    """A duplicate of a number, a socket, another Fd; not inherited by programs."""
    with socket.socket() as sock, Fd.dup(sock) as one, Fd.dup(one) as two, Fd.dup(two.fileno()) as three:
        assert len({sock.fileno(), one.fileno(), two.fileno(), three.fileno()}) == 4
        assert os.path.sameopenfile(sock.fileno(), three.fileno())
        assert not os.get_inheritable(three.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        Fd.dup(10**6)


def test_it_is_not_copied() -> None:
    """Two owners of one number would close each other's file."""
    with Fd(opened()) as fd:
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"Fd\.dup"):
                way(fd)


@pytest.mark.parametrize("value", ["1", None, 1.0, True, -1, -(2**40)])
def test_what_is_no_descriptor(value: Any) -> None:
    """It is refused at once, so that nothing else is closed later."""
    with pytest.raises((TypeError, ValueError)):
        Fd(value)


def test_an_object_is_not_taken_over() -> None:
    """A file would close its descriptor, too: the error names the way that duplicates."""
    with socket.socket() as sock, pytest.raises(TypeError, match=r"Fd\.dup"):
        Fd(sock)  # type: ignore[arg-type]


def test_dropped_it_is_closed_with_a_warning() -> None:
    """Forgetting to close is told, and repaired."""
    number = opened()
    fd = Fd(number)
    with pytest.warns(ResourceWarning, match=f"unclosed Fd\\({number}\\)"):
        del fd
    assert not is_open(number)


def test_dropped_where_warnings_are_errors_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warning that cannot be raised keeps nothing open."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    number = opened()
    fd = Fd(number)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        del fd
    assert isinstance(told[0].exc_value, ResourceWarning)
    told.clear()
    assert not is_open(number)


@pytest.mark.filterwarnings("error")
def test_dropped_after_sending_it_is_just_closed() -> None:
    """It has done its work."""
    number = opened()
    fd = Fd(number)
    fd.mark_sent()
    del fd
    gc.collect()
    assert not is_open(number)


class Tree(msgspec.Struct):
    name: str
    children: list[Tree] = []
    fd: Fd | None = None


class Leaf(msgspec.Struct):
    name: str
    children: list[Leaf] = []


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        (Fd, True), (Fd | None, True), (list[Fd], True), (dict[str, list[Fd]], True), (tuple[int, Fd], True),
        (tuple[Fd, ...], True), (Tree, True), (list[Tree] | None, True),
        (int, False), (Any, False), (Leaf, False), (dict[str, Leaf], False), (list[bytes], False),
    ],
)  # fmt: skip
def test_where_an_fd_can_be(kind: Any, holds: bool) -> None:
    """At any depth, also of a type that contains itself."""
    assert holds_fd(kind) is holds


def test_packing_numbers_them() -> None:
    """Each Fd becomes its index; other objects are refused as by any encoder."""
    with Fd(opened()) as a, Fd(opened()) as b:
        body, fds = pack({"x": [a, b, a], "y": Tree("t", fd=b)})
        assert fds == [a, b, a, b]
        assert msgspec.msgpack.decode(body)["x"] == [0, 1, 2]
        with pytest.raises(TypeError, match="type object is unsupported"):
            pack([a, object()])
        with pytest.raises(CallError):
            pack([a] * 254)


def test_each_is_claimed_once() -> None:
    """Two Fd objects of one number would close each other's file: the second gets none."""
    number = opened()
    rights = Rights([number])
    with pytest.raises(msgspec.ValidationError, match="no descriptor"):
        rights.decode(decoder(list[Fd]), msgspec.msgpack.encode([0, 0]))
    assert not is_open(number)


def test_what_is_not_claimed_is_closed() -> None:
    """By close(), and when the message is dropped."""
    one, two, three = opened(), opened(), opened()
    rights = Rights([one, two])
    (fd,) = rights.decode(decoder(list[Fd]), msgspec.msgpack.encode([1]))
    rights.close()
    assert (is_open(one), fd.fileno()) == (False, two)
    fd.close()
    Rights([three])
    assert not is_open(three)


def test_outside_of_a_message_there_are_none() -> None:
    """A decoder that is used without Rights finds no descriptor, whatever the number."""
    with pytest.raises(msgspec.ValidationError):
        decoder(Fd)(msgspec.msgpack.encode(0))
    with pytest.raises(ValueError, match="no descriptor"):
        NO_RIGHTS.claim(0)


# ---- what a loop reads ahead --------------------------------------------------------------------------------


def test_an_inbox_keeps_what_was_not_announced_yet() -> None:
    """Read before the frame has come, between rings: it is there when it is asked for, once."""
    a, b = socket.socketpair()
    with a, b, Fd(opened()) as fd:
        inbox = Inbox(b)
        inbox.read()
        a.send(MESSAGE.pack(0, 0))
        hand_over(a, 3, [fd, fd])
        a.send(MESSAGE.pack(0, 0) * 2)
        inbox.read()
        first = inbox.take(3)
        for index in (0, 1):
            first.claim(index).close()
        with pytest.raises(ProtocolError, match="did not come"):
            inbox.take(3)
        hand_over(a, 4, [fd])
        with pytest.raises(ProtocolError, match="did not come"):
            inbox.take(5)


def test_an_inbox_keeps_no_more_than_the_last() -> None:
    """What nobody waits for is closed when the next comes, or with the inbox; half a message is told."""
    before = len(os.listdir("/proc/self/fd"))
    a, b = socket.socketpair()
    with a, b, Fd(opened()) as fd:
        inbox = Inbox(b)
        for call_id in range(1, 40):
            hand_over(a, call_id, [fd] * 5)
            inbox.read()
        assert len(os.listdir("/proc/self/fd")) == before + 3 + 5
        inbox.close()
        assert len(os.listdir("/proc/self/fd")) == before + 3
        a.send(b"abc")
        with pytest.raises(ProtocolError, match="3 bytes"):
            inbox.read()
        a.close()
        inbox.read()


def test_a_full_socket_is_no_place_to_wait() -> None:
    """A peer that does not read is told of, and nothing of the message has gone."""
    a, b = socket.socketpair()
    with a, b, Fd(opened()) as fd:
        call_ids = itertools.count(1)

        def fill() -> None:
            while True:
                hand_over(a, next(call_ids), [fd])

        with pytest.raises(ProtocolError, match="does not read"):
            fill()
        drop(b)
        hand_over(a, 7, [fd])
        take(b, 7).close()


def test_a_peer_that_is_gone() -> None:
    """Sending to it is ClosedError, taking from it a message that did not come."""
    a, b = socket.socketpair()
    with a, Fd(opened()) as fd:
        b.close()
        with pytest.raises(ClosedError):
            hand_over(a, 1, [fd])
        with pytest.raises(ProtocolError, match="did not come"):
            take(a, 1)
