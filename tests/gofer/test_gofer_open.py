"""Opening by path in one round trip: the same answers whether or not the tree is on a mount of its own."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from gofer_support import create, fails, needs, opened, walk
from pyprctl import Cap

from gofer import detached
from gofer.protocol import Place
from gofer.session import Session


def can_mount() -> bool:
    """Whether this process may make mounts."""
    try:
        os.close(detached.mount("/", False))
    except OSError:
        return False
    return True


@pytest.fixture(
    params=[
        pytest.param(True, marks=pytest.mark.skipif(not can_mount(), reason="CAP_SYS_ADMIN is missing")),
        False,
    ],
    ids=["own mount", "the host's mount"],
)
def mounted(
    request: pytest.FixtureRequest, make_session: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> Session:
    """A session on either."""

    def refused(*_: object) -> int:
        raise PermissionError(errno.EPERM, "not permitted")

    if not request.param:
        monkeypatch.setattr(detached, "mount", refused)
    session = make_session()
    assert session._export.own_mount is request.param
    return session


@pytest.fixture
def top(mounted: Session) -> int:
    """The root's FID."""
    return mounted.mount().root.fid


def test_walk_open(mounted: Session, top: int) -> None:
    """A file, its stat and its content; a directory; the start itself; no control FID is made."""
    before = len(mounted._fids)
    told = mounted.walk_open(top, [b"dir", b"deep", b"file"], os.O_RDONLY, 100)
    assert bytes(mounted.read(told.fid, 0, 10)) == b"deep" == told.data
    assert told.stat.size == 4
    assert len(mounted._fids) == before + 1
    listed = mounted.walk_open(top, [b"dir"], os.O_RDONLY | os.O_DIRECTORY, 0)
    assert [dent.name for dent in mounted.getdents(listed.fid, 0, 4096, False).entries] == [b"deep"]
    assert stat.S_ISDIR(mounted.walk_open(top, [], os.O_RDONLY, 0).stat.mode)


def test_walk_open_truncates_once(mounted: Session, top: int, tree: Path) -> None:
    """O_TRUNC and writing."""
    told = mounted.walk_open(top, [b"hello"], os.O_RDWR | os.O_TRUNC, 0)
    assert (tree / "hello").stat().st_size == 0
    mounted.write(told.fid, 0, memoryview(b"new"))
    assert (tree / "hello").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("path", "flags", "code"),
    [
        (b"nothing", os.O_RDONLY, errno.ENOENT),
        (b"nothing/x", os.O_RDONLY, errno.ENOENT),
        (b"hello/x", os.O_RDONLY, errno.ENOTDIR),
        (b"hello", os.O_RDONLY | os.O_DIRECTORY, errno.ENOTDIR),
        (b"dir", os.O_WRONLY, errno.EISDIR),
        (b"link", os.O_RDONLY, errno.ELOOP),
        (b"out", os.O_RDONLY, errno.ELOOP),
        (b"dirlink/deep", os.O_RDONLY, errno.ELOOP),
        (b"up/secret", os.O_RDONLY, errno.ELOOP),
        (b"fifo", os.O_WRONLY, errno.ENXIO),
        (b"socket", os.O_RDONLY, errno.ENXIO),
        (b"hello", os.O_RDONLY | os.O_TRUNC, errno.EINVAL),
        (b"hello", os.O_RDONLY | os.O_PATH, errno.EINVAL),
        (b"..", os.O_RDONLY, errno.EINVAL),
    ],
)
def test_walk_open_refuses(
    mounted: Session, top: int, tree: Path, path: bytes, flags: int, code: int
) -> None:
    """The errno says why, and no FID is left."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "socket"))
        before = len(mounted._fids)
        with fails(code):
            mounted.walk_open(top, path.split(b"/"), flags, 0)
        assert len(mounted._fids) == before


@needs(Cap.MKNOD)
def test_devices_do_not_open(mounted: Session, top: int, tree: Path) -> None:
    """EACCES, whichever way: opening a device is already an action on it."""
    os.mknod(tree / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    with fails(errno.EACCES):
        mounted.walk_open(top, [b"null"], os.O_RDONLY, 0)
    with fails(errno.EACCES):
        mounted.open(walk(mounted, top, b"null"), os.O_RDONLY)


def test_all_kinds_of_change_work(mounted: Session, top: int, tree: Path) -> None:
    """What goes by /proc/self/fd and by descriptor works on either mount: link, chmod, truncate, rename."""
    create(mounted, top, b"new", b"content")
    file = walk(mounted, top, b"new")
    mounted.link(file, Place(walk(mounted, top, b"dir"), b"linked"))
    mounted.rename(Place(top, b"new"), Place(walk(mounted, top, b"dir"), b"moved"), 0)
    assert (tree / "dir/linked").samefile(tree / "dir/moved")
    assert bytes(mounted.read(opened(mounted, top, b"dir/moved"), 0, 100)) == b"content"


def test_the_mount_forbids_what_the_protocol_does(make_session: Callable[..., Session], tree: Path) -> None:
    """On a mount of its own, a read-only tree is read-only to the kernel."""
    if not can_mount():
        pytest.skip("CAP_SYS_ADMIN is missing")
    session = make_session(read_only=True)
    with fails(errno.EROFS):
        os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=session._export.root))
    assert os.fstatvfs(session._export.root).f_flag & os.ST_NODEV


def test_no_room_no_truncation(make_session: Callable[..., Session], tree: Path) -> None:
    """EMFILE comes before the file is touched."""
    session = make_session(max_fids=1)
    root = session.mount().root.fid
    with fails(errno.EMFILE):
        session.walk_open(root, [b"hello"], os.O_WRONLY | os.O_TRUNC, 0)
    with fails(errno.EMFILE):
        session.open(root, os.O_RDONLY)
    assert (tree / "hello").stat().st_size == 13
