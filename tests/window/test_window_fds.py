"""Descriptors over a Unix socket: what arrives, what is refused, and that nothing leaks on any way out."""

import array
import errno
import os
import resource
import socket
from collections.abc import Iterator

import pytest
from forks import fork, nofile_limit, run, wait
from hypothesis import given
from hypothesis import strategies as st

from flipcall.allocator import MemfdAllocator
from flipcall.errors import MisuseError, ProtocolError
from flipcall.fds import SCM_MAX_FD, close_fds, recv_fds, send_fds
from flipcall.window import PacketWindow

Pair = tuple[socket.socket, socket.socket]
KINDS = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET, "dgram": socket.SOCK_DGRAM}


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two connected sockets of each kind."""
    a, b = socket.socketpair(socket.AF_UNIX, KINDS[request.param])
    with a, b:
        yield a, b


@pytest.fixture
def stream() -> Iterator[Pair]:
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def same_file(a: int, b: int) -> bool:
    return os.path.sameopenfile(a, b)


@pytest.mark.parametrize("n", [0, 1, 2, 3, SCM_MAX_FD])
def test_descriptors_arrive(pair: Pair, n: int) -> None:
    """As many as were sent, the same files, and closed when a program is executed."""
    r, w = os.pipe()
    try:
        send_fds(pair[0], b"hello", [r] * n)
        data, fds = recv_fds(pair[1], 100, n)
        assert (data, len(fds)) == (b"hello", n)
        assert all(same_file(fd, r) and not os.get_inheritable(fd) for fd in fds)
        close_fds(fds)
    finally:
        close_fds([r, w])


def test_fewer_than_expected_is_fine(pair: Pair) -> None:
    """The caller says how many at most; how many it needs is for it to judge."""
    send_fds(pair[0], b"x", [0])
    data, fds = recv_fds(pair[1], 10, 5)
    assert (data, len(fds)) == (b"x", 1)
    close_fds(fds)


@pytest.mark.parametrize(("sent", "room"), [(1, 0), (2, 1), (3, 2), (4, 1), (SCM_MAX_FD, 1), (253, 252)])
def test_more_than_expected_is_the_peers_fault(pair: Pair, sent: int, room: int) -> None:
    """Not one descriptor too many, also where alignment would have room for it, and none leaks."""
    before = open_fds()
    send_fds(pair[0], b"x", [0] * sent)
    with pytest.raises(ProtocolError, match=f"more descriptors than the {room}"):
        recv_fds(pair[1], 10, room)
    assert open_fds() == before


@given(sent=st.integers(0, 20), room=st.integers(0, 20))
def test_never_leaks_whatever_is_sent(sent: int, room: int) -> None:
    """For any number sent and expected: all arrive, or none."""
    before = open_fds()
    a, b = socket.socketpair()
    with a, b:
        send_fds(a, b"x", [0] * sent)
        if sent <= room:
            fds = recv_fds(b, 1, room)[1]
            assert len(fds) == sent
            close_fds(fds)
        else:
            with pytest.raises(ProtocolError):
                recv_fds(b, 1, room)
    assert open_fds() == before


def test_many_messages_of_rights_in_one() -> None:
    """Several control messages in one sendmsg are still counted together."""
    before = open_fds()
    a, b = socket.socketpair()
    with a, b:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 0]))
        a.sendmsg([b"x"], [rights, rights])
        with pytest.raises(ProtocolError):
            recv_fds(b, 10, 3)
    assert open_fds() == before


@pytest.mark.parametrize("kind", ["seqpacket", "dgram"])
def test_message_longer_than_expected(kind: str) -> None:
    """A datagram that was cut short is an error, and its descriptors are closed."""
    before = open_fds()
    a, b = socket.socketpair(socket.AF_UNIX, KINDS[kind])
    with a, b:
        send_fds(a, b"x" * 11, [0, 0])
        with pytest.raises(ProtocolError, match="longer"):
            recv_fds(b, 10, 2)
    assert open_fds() == before


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_receiver_out_of_descriptors(stream: Pair, spare: int) -> None:
    """When this process can take no more it is EMFILE; those that did arrive are closed."""

    def child() -> None:
        send_fds(stream[0], b"x", [0, 0, 0])
        before = open_fds()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (nofile_limit(spare), hard))
        with pytest.raises(OSError, match="descriptors") as caught:
            recv_fds(stream[1], 10, 3)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        assert caught.value.errno == errno.EMFILE
        assert open_fds() == before

    assert run(child) == 0


def test_end_of_stream(stream: Pair) -> None:
    """A peer that closed is b"" and no descriptors."""
    stream[0].close()
    assert recv_fds(stream[1], 10, 1) == (b"", [])


def test_timeout(stream: Pair) -> None:
    """The socket's own timeout holds."""
    stream[1].settimeout(0.01)
    with pytest.raises(TimeoutError):
        recv_fds(stream[1], 10, 1)


def test_peer_gone_while_sending(stream: Pair) -> None:
    """EPIPE is an exception and not a signal, also in a program that restored SIGPIPE."""
    stream[1].close()
    with pytest.raises(BrokenPipeError):
        send_fds(stream[0], b"x", [0])


def test_long_data_is_sent_whole(stream: Pair) -> None:
    """More than the socket's buffer takes at once; the descriptors come with the first byte, once."""
    data = bytes(range(256)) * 8192
    stream[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

    def child() -> None:
        stream[1].close()
        send_fds(stream[0], data, [0])

    pid = fork(child)
    stream[0].close()
    got, fds = recv_fds(stream[1], 1000, 1)
    assert len(fds) == 1
    close_fds(fds)
    while part := recv_fds(stream[1], 65536, 0)[0]:
        got += part
    assert got == data
    assert wait(pid) == 0


@pytest.mark.parametrize(
    ("data", "fds"), [(b"", [0]), (b"x", [0] * (SCM_MAX_FD + 1))], ids=["no_data", "too_many"]
)
def test_misuse_of_send(stream: Pair, data: bytes, fds: list[int]) -> None:
    """What could not arrive is refused before anything is sent."""
    with pytest.raises(MisuseError):
        send_fds(stream[0], data, fds)


@pytest.mark.parametrize(("size", "room"), [(0, 1), (-1, 1), (1, -1), (1, SCM_MAX_FD + 1)])
def test_misuse_of_recv(stream: Pair, size: int, room: int) -> None:
    """Nonsense is the caller's mistake."""
    with pytest.raises(MisuseError):
        recv_fds(stream[1], size, room)


def test_send_bad_descriptor(stream: Pair) -> None:
    """A closed descriptor is EBADF, and nothing was sent."""
    with pytest.raises(OSError, match="Bad file"):
        send_fds(stream[0], b"x", [1 << 20])
    stream[0].close()
    assert recv_fds(stream[1], 10, 1) == (b"", [])


def test_close_fds_goes_on_after_an_error() -> None:
    """One bad descriptor does not keep the others open."""
    r, w = os.pipe()
    close_fds([r, r, 1 << 20, w])
    for fd in (r, w):
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_a_window_travels(stream: Pair) -> None:
    """The whole way: a window made here is attached by another process, which answers in it."""

    def other() -> None:
        _, fds = recv_fds(stream[1], 1, 1)
        with PacketWindow.attach(fds[0], made.length) as window:
            window.buffer[1] = window.buffer[0] + 1

    with MemfdAllocator().allocate(4096) as made:
        made.buffer[0] = 41
        send_fds(stream[0], b"w", [made.fd])
        assert run(other) == 0
        assert made.buffer[1] == 42
