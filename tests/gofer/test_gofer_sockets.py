"""Unix sockets in the tree, and donated descriptors: through a real server, and what is refused."""

from __future__ import annotations

import errno
import mmap
import os
import select
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pyprctl
import pytest
from gofer_support import Connect, fails, opened, walk
from pyprctl import Cap

from gofer import detached
from gofer.export import Export
from gofer.protocol import Place
from gofer.session import Session


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_connect(connect: Connect, tree: Path, kind: int) -> None:
    """A client reaches a socket in the tree that it could not name, and talks to it directly."""
    with socket.socket(socket.AF_UNIX, kind) as listening:
        listening.bind(str(tree / "dir" / "service"))
        listening.listen()
        with connect(sockets=True) as client, client.connect("dir/service", kind) as mine:
            theirs, _ = listening.accept()
            with theirs:
                mine.sendall(b"hello")
                assert theirs.recv(100) == b"hello"
                client.close()  # what was handed over outlives the session
                theirs.sendall(b"still")
                assert mine.recv(100) == b"still"


def test_bind_listen_accept(connect: Connect, tree: Path) -> None:
    """A client serves at a name in the tree; its host's processes connect there."""
    with connect(sockets=True) as client, client.bind("dir/mine", mode=0o600) as bound:
        info = (tree / "dir" / "mine").lstat()
        assert stat.S_ISSOCK(info.st_mode)
        assert stat.S_IMODE(info.st_mode) == 0o600
        bound.listen()
        assert select.select([bound], [], [], 0)[0] == []
        with pytest.raises(TimeoutError):
            bound.accept(0)
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(tree / "dir" / "mine"))
            assert select.select([bound], [], [], 10)[0] == [bound]
            connection, peer = bound.accept(10)
            with connection:
                assert peer == b""
                connection.sendall(b"welcome")
                assert other.recv(100) == b"welcome"
    assert (tree / "dir" / "mine").exists()  # as bind(2): the name stays


def test_datagrams(connect: Connect, tree: Path) -> None:
    """Without connections, on the socket itself."""
    with (
        connect(sockets=True) as client,
        client.bind("d", socket.SOCK_DGRAM) as bound,
        bound.datagrams() as mine,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        other.sendto(b"x", str(tree / "d"))
        assert mine.recv(10) == b"x"


def test_bound_fids_are_their_own_kind(make_session: Callable[..., Session]) -> None:
    """They are neither read nor walked; nothing else listens; the end of the session closes them."""
    session = make_session(sockets=True)
    root = session.mount().root.fid
    with session.bind(Place(root, b"s"), socket.SOCK_STREAM, 0o700, None).host:
        pass
    bound = session.bind(Place(root, b"t"), socket.SOCK_STREAM, 0o700, None)
    bound.host.close()
    for attempt in (
        lambda: session.read(bound.bound, 0, 1),
        lambda: session.walk(bound.bound, [b"x"]),
        lambda: session.listen(bound.inode.fid, 1),
        lambda: session.accept(root),
    ):
        with fails(errno.EBADF):
            attempt()
    session.listen(bound.bound, 1)
    with fails(errno.EAGAIN):
        session.accept(bound.bound)
    with fails(errno.EINVAL):
        session.listen(bound.bound, -1)


def test_sockets_refused(make_session: Callable[..., Session], tree: Path) -> None:
    """Off unless allowed (EPERM); no other kinds; no name twice, too long or climbing; not read-only."""
    off = make_session()
    root = off.mount().root.fid
    with fails(errno.EPERM):
        off.connect(root, socket.SOCK_STREAM)
    with fails(errno.EPERM):
        off.bind(Place(root, b"s"), socket.SOCK_STREAM, 0o700, None)
    session = make_session(sockets=True)
    root = session.mount().root.fid
    with fails(errno.ECONNREFUSED):
        session.connect(walk(session, root, b"hello"), socket.SOCK_STREAM)
    for kind in (socket.SOCK_RAW, 0, 1 << 40, socket.SOCK_STREAM | socket.SOCK_CLOEXEC):
        with fails(errno.EINVAL):
            session.bind(Place(root, b"s"), kind, 0o700, None)
    for name, code in (
        (b"hello", errno.EADDRINUSE),
        (b"x" * 200, errno.ENAMETOOLONG),
        (b"..", errno.EINVAL),
        (b"a/b", errno.EINVAL),
    ):
        with fails(code):
            session.bind(Place(root, name), socket.SOCK_STREAM, 0o700, None)
    read_only = make_session(sockets=True, read_only=True)
    with fails(errno.EROFS):
        read_only.bind(Place(read_only.mount().root.fid, b"s"), socket.SOCK_STREAM, 0o700, None)


def test_donated(connect: Connect, tree: Path) -> None:
    """The very file: read, written, mapped without the gofer, after the session too."""
    with connect(donate=True) as client:
        assert client.limits.donates
        with client.open_raw("hello", os.O_RDWR) as file:
            donated = file.donated()
            os.lseek(donated.fileno(), 5, os.SEEK_SET)
            os.set_blocking(donated.fileno(), False)
            assert file.pread(5, 0) == b"hello"
    with donated:
        assert os.pread(donated.fileno(), 100, 0) == b"hello, world\n"
        os.pwrite(donated.fileno(), b"H", 0)
        with mmap.mmap(donated.fileno(), 0) as mapped:
            assert mapped[:5] == b"Hello"
    assert (tree / "hello").read_bytes() == b"Hello, world\n"


def test_donated_has_the_access_that_was_opened(make_session: Callable[..., Session]) -> None:
    """Opened for reading, it does not write."""
    session = make_session(donate=True)
    root = session.mount().root.fid
    with session.donate(opened(session, root, b"hello")) as reading, fails(errno.EBADF):
        os.write(reading.fileno(), b"x")
    with session.donate(opened(session, root, b"hello", os.O_WRONLY | os.O_APPEND)) as writing:
        os.pwrite(writing.fileno(), b"more", 0)
        with fails(errno.EBADF):
            os.read(writing.fileno(), 1)
    assert bytes(session.read(opened(session, root, b"hello"), 0, 100)) == b"hello, world\nmore"


def test_never_donated(make_session: Callable[..., Session]) -> None:
    """Not unless allowed; no directory, from which one could climb; no FIFO; no control FID."""
    off = make_session()
    with fails(errno.EPERM):
        off.donate(opened(off, off.mount().root.fid, b"hello"))
    session = make_session(donate=True)
    root = session.mount().root.fid
    for name in (b"dir", b"fifo"):
        with fails(errno.EPERM):
            session.donate(opened(session, root, name))
    with fails(errno.EBADF):
        session.donate(walk(session, root, b"hello"))


def test_donated_of_a_read_only_tree(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By /proc it cannot be opened again for writing: the mount is read-only. Without one, nothing is served."""
    try:
        export = Export(tree, read_only=True, donate=True)
    except PermissionError:
        assert Cap.SYS_ADMIN not in pyprctl.CapState.get_current().effective
    else:
        session = Session(export)
        try:
            fid = opened(session, session.mount().root.fid, b"hello")
            with session.donate(fid) as donated, fails(errno.EROFS):
                os.open(f"/proc/self/fd/{donated.fileno()}", os.O_WRONLY)
        finally:
            session.on_disconnect()
            export.close()

    def refused(*_: object) -> int:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(detached, "mount", refused)
    with pytest.raises(PermissionError, match="mount of its own"):
        Export(tree, read_only=True, donate=True)


def test_view_and_readinto(connect: Connect, tree: Path) -> None:
    """Without a copy, and into a buffer that is there."""
    (tree / "big").write_bytes(bytes(range(256)) * 8192)
    with connect() as client, client.open_raw("big") as file:
        with file.view(1 << 20, 256) as data:
            assert len(data) == min(1 << 20, client.max_read)
            assert bytes(data[:256]) == bytes(range(256))
        with file.view(10, 1 << 30) as data:
            assert len(data) == 0
        buffer = bytearray(1000)
        file.seek(255)
        assert file.readinto(buffer) == 1000
        assert buffer[:3] == b"\xff\x00\x01"
        assert file.tell() == 1255
