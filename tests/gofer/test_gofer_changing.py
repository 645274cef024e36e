"""Attributes, new kinds of objects, links, renames and extended attributes, by FID and by path."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from gofer_support import Connect, create, fails, needs, opened, walk
from pyprctl import Cap

from gofer.protocol import NOW, Attribute, Owner, Place, SetStat, Stop
from gofer.session import Session

needs_root = needs(Cap.CHOWN)


def test_set_stat_everything_at_once(session: Session, root: int, tree: Path) -> None:
    """Mode, size and times in one call; the answer is what the file is now."""
    fid = walk(session, root, b"hello")
    done = session.set_stat(fid, SetStat(mode=0o640, size=5, atime_ns=10**18 + 1, mtime_ns=-5))
    info = (tree / "hello").stat()
    assert (done.failed, done.errno) == (0, 0)
    assert (stat.S_IMODE(info.st_mode), info.st_size) == (0o640, 5)
    assert (info.st_atime_ns, info.st_mtime_ns) == (10**18 + 1, -5)
    assert (done.stat.mode, done.stat.size, done.stat.mtime_ns) == (info.st_mode, 5, -5)


def test_set_stat_leaves_the_rest(session: Session, root: int, tree: Path) -> None:
    """What is None stays; NOW is the clock's."""
    fid = walk(session, root, b"hello")
    session.set_stat(fid, SetStat(atime_ns=1, mtime_ns=1))
    session.set_stat(fid, SetStat(mtime_ns=NOW))
    info = (tree / "hello").stat()
    assert info.st_atime_ns == 1
    assert info.st_mtime_ns > 10**18
    assert info.st_size == 13


def test_set_stat_tries_all_and_says_what_failed(session: Session, root: int, tree: Path) -> None:
    """A directory has no size to set: its mode and times are set all the same."""
    fid = walk(session, root, b"dir")
    done = session.set_stat(fid, SetStat(mode=0o711, size=0, mtime_ns=7))
    assert Attribute(done.failed) == Attribute.SIZE
    assert done.errno == errno.EISDIR
    info = (tree / "dir").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_mtime_ns) == (0o711, 7)


def test_set_stat_by_open_fid(session: Session, root: int, tree: Path) -> None:
    """An unlinked file, which has no other FID, is truncated by its open one; a read-only one is not."""
    fid = opened(session, root, b"hello", os.O_RDWR)
    reading = opened(session, root, b"hello")
    session.unlink(Place(root, b"hello"), False)
    assert session.set_stat(fid, SetStat(size=3, mode=0o600)).stat.size == 3
    assert Attribute(session.set_stat(reading, SetStat(size=1)).failed) == Attribute.SIZE


def test_set_stat_of_a_link_is_the_link_s(session: Session, root: int, tree: Path) -> None:
    """Times are the link's own; it has no mode; its target is not touched."""
    before = (tree / "hello").stat()
    done = session.set_stat(walk(session, root, b"link"), SetStat(mode=0o600, mtime_ns=9))
    assert Attribute(done.failed) == Attribute.MODE
    assert (tree / "link").lstat().st_mtime_ns == 9
    assert (tree / "hello").stat().st_mtime_ns == before.st_mtime_ns
    assert (tree / "hello").stat().st_mode == before.st_mode


@needs_root
def test_owners(session: Session, root: int, tree: Path) -> None:
    """What is made is its owner's from the first moment; chown changes one of both, of links too."""
    me = Owner(1234, 5678)
    session.create(Place(root, b"f"), os.O_RDWR, 0o644, me)
    session.mkdir(Place(root, b"d"), 0o755, me)
    session.mknod(Place(root, b"p"), 0o644 | stat.S_IFIFO, me)
    session.symlink(Place(root, b"s"), b"hello", me)
    for name in "fdps":
        info = (tree / name).lstat()
        assert (info.st_uid, info.st_gid) == (1234, 5678), name
    session.set_stat(walk(session, root, b"s"), SetStat(uid=1))
    assert ((tree / "s").lstat().st_uid, (tree / "s").lstat().st_gid) == (1, 5678)
    assert (tree / "hello").stat().st_uid == 0


def test_what_cannot_be_given_away_is_not_made(session: Session, root: int, tree: Path) -> None:
    """When the new owner is refused, nothing is left of the new object, and no FID."""
    monkey = pytest.MonkeyPatch()
    before = len(session._fids)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no")

    with monkey.context() as patch:
        patch.setattr("gofer.syscalls.chown", refuse)
        for make in (
            lambda: session.create(Place(root, b"n"), os.O_RDWR, 0o644, Owner(1, 1)),
            lambda: session.mkdir(Place(root, b"n"), 0o755, Owner(1, 1)),
            lambda: session.mknod(Place(root, b"n"), 0o644 | stat.S_IFIFO, Owner(1, 1)),
            lambda: session.symlink(Place(root, b"n"), b"x", Owner(1, 1)),
        ):
            with fails(errno.EPERM):
                make()
            assert not (tree / "n").is_symlink()
            assert not (tree / "n").exists()
    assert len(session._fids) == before


@pytest.mark.parametrize("kind", [stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK])
def test_mknod(session: Session, root: int, tree: Path, kind: int) -> None:
    """Regular files, FIFOs and sockets are made."""
    made = session.mknod(Place(root, b"new"), 0o600 | kind, None)
    assert stat.S_IFMT(made.stat.mode) == stat.S_IFMT((tree / "new").lstat().st_mode) == kind


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFDIR, stat.S_IFLNK, 0, 1 << 40])
def test_mknod_refuses(session: Session, root: int, tree: Path, kind: int) -> None:
    """Devices, and what is no node, are EPERM."""
    with fails(errno.EPERM):
        session.mknod(Place(root, b"new"), 0o600 | kind, None)
    assert not (tree / "new").exists()


def test_link(session: Session, root: int, tree: Path) -> None:
    """One more name for the very inode; of a symbolic link, the link; of a directory, EPERM."""
    file = walk(session, root, b"hello")
    directory = walk(session, root, b"dir")
    made = session.link(file, Place(directory, b"again"))
    assert made.stat.ino == (tree / "hello").stat().st_ino
    assert made.stat.nlink == 2
    assert session.link(walk(session, root, b"link"), Place(root, b"link2")).stat.mode & stat.S_IFLNK
    assert os.readlink(tree / "link2") == "hello"
    with fails(errno.EPERM):
        session.link(directory, Place(root, b"x"))
    with fails(errno.ENOTDIR):
        session.link(file, Place(file, b"x"))
    with fails(errno.EEXIST):
        session.link(file, Place(root, b"fifo"))


def test_symlink_is_only_written_down(session: Session, root: int, tree: Path) -> None:
    """A target that leads out is made as given, and followed by nobody here."""
    made = session.symlink(Place(root, b"new"), b"../../../etc/passwd", None)
    assert session.readlink(made.fid) == b"../../../etc/passwd"
    assert session.walk(root, [b"new", b"x"]).stop is Stop.SYMLINK
    with fails(errno.EINVAL):
        session.symlink(Place(root, b"nul"), b"a\0b", None)


def test_rename_flags(session: Session, root: int, tree: Path) -> None:
    """NOREPLACE leaves what is there; EXCHANGE trades; other flags are EINVAL."""
    hello, empty = Place(root, b"hello"), Place(root, b"empty")
    with fails(errno.EEXIST):
        session.rename(hello, empty, 1)
    session.rename(hello, empty, 2)
    assert (tree / "empty").read_bytes() == b"hello, world\n"
    assert (tree / "hello").read_bytes() == b""
    session.rename(empty, Place(root, b"new"), 1)
    for flags in (3, 4, -1, 1 << 70):
        with fails(errno.EINVAL):
            session.rename(hello, Place(root, b"x"), flags)


def test_statfs(session: Session, root: int, tree: Path) -> None:
    """As statvfs tells, of either kind of FID."""
    told = os.statvfs(tree)
    for fid in (root, opened(session, root, b"hello")):
        info = session.statfs(fid)
        assert (info.bsize, info.frsize, info.blocks, info.files) == (
            told.f_bsize,
            told.f_frsize,
            told.f_blocks,
            told.f_files,
        )
        assert (info.namemax, info.fsid) == (told.f_namemax, told.f_fsid)
        # The gofer's own mount of it may forbid more.
        assert info.flag | os.ST_NODEV | os.ST_NOSUID == told.f_flag | os.ST_NODEV | os.ST_NOSUID


def test_fallocate_and_holes(session: Session, root: int, tree: Path) -> None:
    """Space is reserved, a hole punched and found; other modes are EOPNOTSUPP."""
    fid = create(session, root, b"new", b"x" * 8192)
    session.fallocate(fid, 0, 0, 16384)
    assert (tree / "new").stat().st_size == 16384
    session.fallocate(fid, 1, 16384, 4096)  # KEEP_SIZE
    assert (tree / "new").stat().st_size == 16384
    try:
        session.fallocate(fid, 3, 0, 4096)  # PUNCH_HOLE
    except OSError as e:
        if e.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip("this file system punches no holes")
    assert bytes(session.read(fid, 0, 4096)) == bytes(4096)
    assert session.seek(fid, 0, os.SEEK_DATA) == 4096
    assert session.seek(fid, 0, os.SEEK_HOLE) == 0
    with fails(errno.ENXIO):
        session.seek(fid, 1 << 30, os.SEEK_DATA)
    with fails(errno.EINVAL):
        session.seek(fid, 0, os.SEEK_SET)
    with fails(errno.EOPNOTSUPP):
        session.fallocate(fid, 1 << 20, 0, 10)


def test_flush(session: Session, root: int) -> None:
    """Of an open FID, which stays open; a control FID has nothing to flush."""
    fid = opened(session, root, b"hello", os.O_RDWR)
    session.flush(fid)
    assert session.write(fid, 0, memoryview(b"H")) == 1
    with fails(errno.EBADF):
        session.flush(root)


def test_xattrs(session: Session, root: int, tree: Path) -> None:
    """Set, told, listed, replaced, removed: of control and open FIDs."""
    for fid in (walk(session, root, b"hello"), opened(session, root, b"hello"), walk(session, root, b"dir")):
        try:
            session.set_xattr(fid, b"user.a", b"\0\xff", 0)
        except OSError as e:
            if e.errno != errno.EOPNOTSUPP:
                raise
            pytest.skip("this file system has no extended attributes")
        assert session.get_xattr(fid, b"user.a") == b"\0\xff"
        assert session.list_xattr(fid) == [b"user.a"]
        with fails(errno.EEXIST):
            session.set_xattr(fid, b"user.a", b"", os.XATTR_CREATE)
        session.set_xattr(fid, b"user.a", b"new", os.XATTR_REPLACE)
        session.remove_xattr(fid, b"user.a")
        with fails(errno.ENODATA):
            session.get_xattr(fid, b"user.a")


def test_errors_name_no_file(session: Session, root: int) -> None:
    """They cross to the client with what names they have, and the server's are none of its affair."""
    fid = walk(session, root, b"hello")
    attempts: list[Callable[[], object]] = [
        lambda: session.get_xattr(fid, b"user.none"),
        lambda: session.mkdir(Place(root, b"dir"), 0o755, None),
        lambda: session.link(fid, Place(root, b"hello")),
        lambda: session.open(fid, os.O_RDONLY | os.O_DIRECTORY),
        lambda: session.rename(Place(root, b"none"), Place(root, b"other"), 0),
    ]
    for attempt in attempts:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - whatever it is
            attempt()
        assert caught.value.errno
        assert (caught.value.filename, caught.value.filename2) == (None, None), attempt


@pytest.mark.parametrize(
    "name", [b"security.capability", b"trusted.x", b"system.posix_acl_access", b"", b"x"]
)
def test_xattrs_of_the_host_are_its_own(session: Session, root: int, name: bytes) -> None:
    """Only the namespace that means nothing to the kernel is served."""
    fid = walk(session, root, b"hello")
    for attempt in (
        lambda: session.get_xattr(fid, name),
        lambda: session.set_xattr(fid, name, b"x", 0),
        lambda: session.remove_xattr(fid, name),
    ):
        with fails(errno.EOPNOTSUPP):
            attempt()


def test_set_uid_is_never_given(session: Session, root: int) -> None:
    """Neither by making nor by chmod does a client get a program that runs as the server's user."""
    fid = walk(session, root, b"hello")
    for mode in (0o4755, 0o2755):
        with fails(errno.EPERM):
            session.set_stat(fid, SetStat(mode=mode))
        with fails(errno.EPERM):
            session.mknod(Place(root, b"new"), mode | stat.S_IFREG, None)


def test_read_only_changes_nothing(make_session: Callable[..., Session], tree: Path) -> None:
    """Whatever the table marks as changing is EROFS."""
    session = make_session(read_only=True)
    root = session.mount().root.fid
    fid = walk(session, root, b"hello")
    new = Place(root, b"new")
    for attempt in (
        lambda: session.set_stat(fid, SetStat(mode=0o600)),
        lambda: session.mkdir(new, 0o755, None),
        lambda: session.mknod(new, 0o600 | stat.S_IFREG, None),
        lambda: session.symlink(new, b"x", None),
        lambda: session.link(fid, new),
        lambda: session.unlink(Place(root, b"hello"), False),
        lambda: session.rename(Place(root, b"hello"), new, 0),
        lambda: session.set_xattr(fid, b"user.x", b"", 0),
        lambda: session.remove_xattr(fid, b"user.x"),
        lambda: session.create(new, os.O_RDONLY, 0o600, None),
    ):
        with fails(errno.EROFS):
            attempt()


def test_by_path(connect: Connect, tree: Path) -> None:
    """The client's functions are os's, links followed or not."""
    with connect() as client:
        client.symlink("hello", "s")
        client.link("hello", "h")
        client.chmod("s", 0o604)
        client.utime("s", (3, 4))
        client.utime("s", (5, 6), follow_symlinks=False)
        client.truncate("s", 2)
        info, link = (tree / "hello").stat(), (tree / "s").lstat()
        assert (stat.S_IMODE(info.st_mode), info.st_size, info.st_nlink) == (0o604, 2, 2)
        assert link.st_mtime_ns == 6
        client.rename("h", "dir/h2")
        client.rename("dir/h2", "empty", exchange=True)
        assert (tree / "dir/h2").stat().st_size == 0
        with fails(errno.EEXIST):
            client.rename("dir/h2", "hello", replace=False)
        client.mkfifo("f", 0o600)
        assert stat.S_ISFIFO((tree / "f").stat().st_mode)
        assert client.statvfs("dir").namemax == 255
        with pytest.raises(IsADirectoryError, match="dir"):
            client.truncate("dir", 0)
