"""A client that asks for what it must not have: the right errno, and never a byte from outside the tree."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gofer_support import CLIMBING, fails, needs, opened, walk
from pyprctl import Cap

from gofer import syscalls
from gofer.protocol import MAX_NAMES, Place
from gofer.session import Session

as_root = needs(Cap.MKNOD, Cap.SETUID, Cap.DAC_OVERRIDE)


@pytest.mark.parametrize("name", CLIMBING)
def test_names_that_are_none(session: Session, root: int, tree: Path, name: bytes) -> None:
    """Every operation that takes a name refuses these with EINVAL, wherever they stand, touching nothing."""
    directory = walk(session, root, b"dir")
    before = sorted(os.listdir(tree)), len(session._fids)
    attempts: list[Callable[[], object]] = [
        lambda: session.walk(root, [name]),
        lambda: session.walk(root, [b"dir", name]),
        lambda: session.walk(root, [b"nothing", name]),
        lambda: session.walk_stat(root, [name], True),
        lambda: session.walk_stat(root, [b"dir", name], True),
        lambda: session.walk(directory, [name, b"secret"]),
        lambda: session.create(Place(root, name), os.O_RDWR, 0o644, None),
        lambda: session.mkdir(Place(root, name), 0o755, None),
        lambda: session.unlink(Place(directory, name), False),
        lambda: session.unlink(Place(directory, name), True),
        lambda: session.rename(Place(directory, name), Place(root, b"x"), 0),
        lambda: session.rename(Place(root, b"hello"), Place(root, name), 0),
    ]
    for attempt in attempts:
        with fails(errno.EINVAL):
            attempt()
    assert (sorted(os.listdir(tree)), len(session._fids)) == before


def test_long_names_and_long_walks(session: Session, root: int) -> None:
    """ENAMETOOLONG for a name over 255 bytes and for a walk over the limit."""
    with fails(errno.ENAMETOOLONG):
        session.walk(root, [b"x" * 256])
    with fails(errno.ENAMETOOLONG):
        session.walk(root, [b"x"] * (MAX_NAMES + 1))
    with fails(errno.ENAMETOOLONG):
        session.walk_stat(root, [b"x"] * (MAX_NAMES + 1), True)


@pytest.mark.parametrize("name", [b"out", b"absolute", b"up", b"link", b"dirlink", b"loop"])
def test_symlinks_are_never_followed(session: Session, root: int, name: bytes) -> None:
    """A control FID of a link is the link: it opens as ELOOP, and nothing is below it."""
    link = walk(session, root, name)
    with fails(errno.ELOOP):
        session.open(link, os.O_RDONLY)
    with fails(errno.ELOOP):
        session.open(link, os.O_RDONLY | os.O_DIRECTORY)
    for attempt in (
        lambda: session.walk(link, [b"secret"]),
        lambda: session.walk_stat(link, [b"secret"], True),
        lambda: session.create(Place(link, b"new"), os.O_RDWR, 0o644, None),
        lambda: session.mkdir(Place(link, b"new"), 0o755, None),
        lambda: session.unlink(Place(link, b"secret"), False),
        lambda: session.rename(Place(link, b"secret"), Place(root, b"new"), 0),
        lambda: session.rename(Place(root, b"hello"), Place(link, b"new"), 0),
    ):
        with fails(errno.ENOTDIR):
            attempt()


def test_the_door_refuses_by_itself(tree: Path) -> None:
    """Were a bad name to get past the check, openat2 would refuse it: the second lock is locked too."""
    root = os.open(tree, os.O_PATH)
    try:
        for name, code in (
            (b"..", errno.EXDEV),
            (b"/etc/passwd", errno.EXDEV),
            (b"../secret", errno.EXDEV),
            (b"dir/../../secret", errno.EXDEV),
            (b"dirlink/deep", errno.ELOOP),
            (b"up/secret", errno.ELOOP),
        ):
            with fails(code):
                syscalls.open_beneath(root, name, os.O_PATH | os.O_NOFOLLOW)
        with fails(errno.ELOOP):
            syscalls.open_beneath(root, b"out", os.O_RDONLY)
    finally:
        os.close(root)


def test_no_openat2_means_no_gofer(
    monkeypatch: pytest.MonkeyPatch, make_session: Callable[..., Session]
) -> None:
    """Where the kernel lacks openat2, or it does not confine, nothing is served and the error says why."""
    monkeypatch.setattr(syscalls, "_OPENAT2", 100000)  # a number no kernel knows: ENOSYS
    with pytest.raises(OSError, match="openat2 does not work here") as caught:
        make_session()
    assert caught.value.errno == errno.ENOSYS
    monkeypatch.undo()
    monkeypatch.setattr(syscalls, "_RESOLVE", 0)
    syscalls._how.cache_clear()
    try:
        with pytest.raises(OSError, match="ignores RESOLVE_BENEATH"):
            make_session()
    finally:
        syscalls._how.cache_clear()


def test_stale_and_foreign_fids(make_session: Callable[..., Session]) -> None:
    """Closed FIDs, other sessions' FIDs, invented ones and the wrong kind: EBADF from every operation."""
    session, other = make_session(), make_session()
    root, foreign = session.mount().root.fid, other.mount().root.fid
    stale = walk(session, root, b"hello")
    session.close_fids([stale])
    reading = opened(session, root, b"hello")
    bad = [stale, foreign, 0, -1, 1, 2, 3, root + 1000, 2**63 - 1, 2**64 - 1, -(2**63)]
    controls: list[Callable[[int], object]] = [
        lambda fid: session.walk(fid, [b"hello"]),
        lambda fid: session.walk_stat(fid, [b"hello"], True),
        lambda fid: session.open(fid, os.O_RDONLY).fid,
        lambda fid: session.readlink(fid),
        lambda fid: session.create(Place(fid, b"x"), os.O_RDWR, 0o644, None),
        lambda fid: session.mkdir(Place(fid, b"x"), 0o755, None),
        lambda fid: session.unlink(Place(fid, b"hello"), False),
        lambda fid: session.rename(Place(fid, b"hello"), Place(root, b"x"), 0),
        lambda fid: session.rename(Place(root, b"hello"), Place(fid, b"x"), 0),
    ]
    opens: list[Callable[[int], object]] = [
        lambda fid: session.read(fid, 0, 10),
        lambda fid: session.write(fid, 0, memoryview(b"x")),
        lambda fid: session.getdents(fid, 0, 4096, False),
        lambda fid: session.fsync([fid], False),
    ]
    either: list[Callable[[int], object]] = [
        lambda fid: session.stat(fid),
        lambda fid: session.close_fids([fid]),
    ]
    for operations, fids in (
        (controls, [*bad, reading]),
        (opens, [*bad, root]),
        (either, bad),
    ):
        for operation in operations:
            for fid in fids:
                with fails(errno.EBADF):
                    operation(fid)
    assert other.stat(foreign).mode  # the other session's FID is still its own


@pytest.mark.parametrize(
    ("offset", "code"),
    [(-1, errno.EINVAL), (-(2**63), errno.EINVAL), (2**63, errno.EOVERFLOW), (2**64 - 1, errno.EOVERFLOW)],
)
def test_offsets_no_kernel_takes(session: Session, root: int, offset: int, code: int) -> None:
    """Offsets outside 63 bits are refused here, not by an exception of Python's."""
    fid = opened(session, root, b"hello", os.O_RDWR)
    with fails(code):
        session.read(fid, offset, 10)
    with fails(code):
        session.write(fid, offset, memoryview(b"x"))
    with fails(code):
        session.getdents(session.open(root, os.O_RDONLY).fid, offset, 4096, False)


def test_offsets_at_the_edge(session: Session, root: int, tree: Path) -> None:
    """Offsets the kernel takes get the kernel's answer: the same errno as pread and pwrite here."""
    fid = opened(session, root, b"hello", os.O_RDWR)
    fd = os.open(tree / "hello", os.O_RDWR)
    try:
        for offset in (2**63 - 1, 2**63 - 10, 2**62):
            for mine, theirs in (
                (lambda o=offset: session.read(fid, o, 100), lambda o=offset: os.pread(fd, 100, o)),
                (
                    lambda o=offset: session.write(fid, o, memoryview(b"x" * 100)),
                    lambda o=offset: os.pwrite(fd, b"x" * 100, o),
                ),
            ):
                assert outcome(mine) == outcome(theirs)
    finally:
        os.close(fd)


def outcome(operation: Callable[[], object]) -> object:
    """Its result, or its errno."""
    try:
        result = operation()
    except OSError as error:
        return error.errno
    return bytes(result) if isinstance(result, (bytes, memoryview)) else result


def test_lengths(session: Session, root: int) -> None:
    """A negative length is EINVAL; a huge one gives what there is, from a buffer no larger than max_read."""
    fid = opened(session, root, b"hello")
    for length in (-1, -(2**63)):
        with fails(errno.EINVAL):
            session.read(fid, 0, length)
    for length in (2**31, 2**63 - 1, 2**64 - 1):
        data = session.read(fid, 0, length)
        assert bytes(data) == b"hello, world\n"


@pytest.mark.parametrize(
    "flags",
    [3, os.O_CREAT, os.O_PATH, os.O_TMPFILE | os.O_RDWR, os.O_DIRECT, os.O_TRUNC, -1, 1 << 40, os.O_NONBLOCK],
)
def test_open_flags(session: Session, root: int, flags: int) -> None:
    """Flags beyond the protocol's are EINVAL."""
    with fails(errno.EINVAL):
        session.open(root, flags)
    with fails(errno.EINVAL):
        session.create(Place(root, b"x"), flags, 0o644, None)


def test_modes(session: Session, root: int) -> None:
    """A mode out of range is EINVAL; set-uid and set-gid are EPERM; nothing is made."""
    for mode, code in (
        (-1, errno.EINVAL),
        (0o10000, errno.EINVAL),
        (0o4755, errno.EPERM),
        (0o2755, errno.EPERM),
    ):
        with fails(code):
            session.create(Place(root, b"x"), os.O_RDWR, mode, None)
        with fails(code):
            session.mkdir(Place(root, b"x"), mode, None)
    assert session.walk_stat(root, [b"x"], True).stats == []


def test_opening_a_fifo_does_not_wait(session: Session, root: int) -> None:
    """No writer, no reader: opening answers at once, and reading at an offset is ESPIPE as in the kernel."""
    fifo = walk(session, root, b"fifo")
    with fails(errno.ENXIO):
        session.open(fifo, os.O_WRONLY)
    fid = session.open(fifo, os.O_RDONLY).fid
    with fails(errno.ESPIPE):
        session.read(fid, 0, 10)


def test_sockets_do_not_open(session: Session, root: int, tree: Path) -> None:
    """ENXIO, as for any process that opens one by name."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "s"))
        with fails(errno.ENXIO):
            session.open(walk(session, root, b"s"), os.O_RDONLY)


@as_root
def test_devices_do_not_open(session: Session, root: int, tree: Path) -> None:
    """A device node may be looked at; opening one is EACCES, before anything happens to the device."""
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(tree / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 200))
    for name in (b"null", b"disk"):
        for flags in (os.O_RDONLY, os.O_RDWR):
            with fails(errno.EACCES):
                session.open(walk(session, root, name), flags)


def test_fid_limit(make_session: Callable[..., Session]) -> None:
    """One session's limit is EMFILE, makes nothing, and does not touch another session."""
    session, other = make_session(max_fids=5), make_session(max_fids=5)
    root = session.mount().root.fid
    fids = [walk(session, root, b"hello") for _ in range(4)]
    for attempt in (
        lambda: session.walk(root, [b"hello"]),
        lambda: session.open(root, os.O_RDONLY).fid,
        lambda: session.create(Place(root, b"new"), os.O_RDWR, 0o644, None),
        lambda: session.mkdir(Place(root, b"new"), 0o755, None),
        lambda: session.mount(),
    ):
        with fails(errno.EMFILE):
            attempt()
    assert session.walk_stat(root, [b"new"], True).stats == []
    assert other.mount().root.fid
    session.close_fids(fids)
    walk(session, root, b"dir/deep")


@as_root
def test_permission_denied(tmp_path: Path, direct: None) -> None:
    """What the server's user may not read, no client reads: EACCES, and the FID stays good for a look."""
    from gofer.export import Export

    top = tmp_path / "tree"
    top.mkdir()
    (top / "private").write_bytes(b"x")
    (top / "private").chmod(0o600)
    (top / "closed").mkdir(mode=0o700)
    export = Export(top)
    session = Session(export)
    try:
        root = session.mount().root.fid
        with user(65534):
            private = walk(session, root, b"private")
            with fails(errno.EACCES):
                session.open(private, os.O_RDONLY)
            with fails(errno.EACCES):
                session.walk(root, [b"closed", b"x"])
            with fails(errno.EACCES):
                session.create(Place(root, b"new"), os.O_RDWR, 0o644, None)
            assert session.stat(private).size == 1
    finally:
        session.on_disconnect()
        export.close()


@contextlib.contextmanager
def user(uid: int) -> Iterator[None]:
    """File system access as another user, for this thread (setfsuid is per thread, unlike seteuid)."""
    libc = ctypes.CDLL(None)
    libc.setfsgid(uid)
    libc.setfsuid(uid)
    try:
        yield
    finally:
        libc.setfsuid(0)
        libc.setfsgid(0)


@as_root
def test_full_disk(tmp_path: Path, make_session: Callable[..., Session]) -> None:
    """A write that half fits says how much did; the next is ENOSPC; what was written is intact."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        session = make_session(disk)
        root = session.mount().root.fid
        fid = session.create(Place(root, b"f"), os.O_RDWR, 0o644, None).opened
        done = session.write(fid, 0, memoryview(b"a" * 100_000))
        assert 0 < done < 100_000
        with fails(errno.ENOSPC):
            session.write(fid, done, memoryview(b"a" * 100_000))
        assert bytes(session.read(fid, 0, 1 << 20)) == b"a" * done
        session.on_disconnect()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
