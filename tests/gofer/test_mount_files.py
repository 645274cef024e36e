"""The mount as a file system: what POSIX says of each operation, seen on both sides."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gofer_support import LATIN1, fails
from mount_support import Mounted, mounted, needs_mount

pytestmark = [needs_mount, pytest.mark.timeout(30)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """One mount for the module: each test has a directory of its own in it."""
    with mounted(tmp_path_factory.mktemp("mount")) as found:
        yield found


def test_create_read_write(at: Path, host: Path) -> None:
    """What is written on one side is read on the other, at any offset."""
    with open(at / "file", "w+b") as file:
        file.write(b"0123456789")
        file.seek(20)
        file.write(b"end")
        file.flush()
        assert (host / "file").read_bytes() == b"0123456789" + bytes(10) + b"end"
        file.seek(5)
        assert file.read(10) == b"56789" + bytes(5)
    assert (at / "file").read_bytes() == (host / "file").read_bytes()


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 131072, 131073, 3 * 1024 * 1024 + 17])
def test_sizes(at: Path, host: Path, size: int) -> None:
    """Files of sizes around those of pages, requests and windows arrive whole, both ways."""
    content = os.urandom(size)
    (at / "out").write_bytes(content)
    assert (host / "out").read_bytes() == content
    (host / "in").write_bytes(content)
    assert (at / "in").read_bytes() == content


def test_exclusive(at: Path) -> None:
    """O_EXCL makes a file once."""
    os.close(os.open(at / "file", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    with fails(errno.EEXIST):
        os.open(at / "file", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_exclusive_behind_a_cached_absence(at: Path, host: Path) -> None:
    """A file that others made since the mount saw none there is not made again, and opened if that is allowed."""
    for name in ("exclusive", "shared"):
        assert not (at / name).exists()
        (host / name).write_bytes(b"theirs")
    with fails(errno.EEXIST):
        os.open(at / "exclusive", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    with open(at / "shared", "ab") as file:
        file.write(b" and ours")
    assert (host / "shared").read_bytes() == b"theirs and ours"


def test_append(at: Path, host: Path) -> None:
    """O_APPEND writes at the end there is now, which another may have moved."""
    with open(at / "file", "ab", buffering=0) as file:
        file.write(b"one ")
        with open(host / "file", "ab") as other:
            other.write(b"two ")
        file.write(b"three")
    assert (host / "file").read_bytes() == b"one two three"


def test_truncate(at: Path, host: Path) -> None:
    """By path, by descriptor and by O_TRUNC; growing fills with zeros."""
    (at / "file").write_bytes(b"0123456789")
    os.truncate(at / "file", 4)
    assert (host / "file").read_bytes() == b"0123"
    with open(at / "file", "r+b") as file:
        file.truncate(8)
        assert file.read() == b"0123" + bytes(4)
    os.close(os.open(at / "file", os.O_WRONLY | os.O_TRUNC))
    assert (at / "file").stat().st_size == (host / "file").stat().st_size == 0


def test_unlinked_while_open(at: Path, host: Path) -> None:
    """An open file outlives its name: read, written, truncated and asked about."""
    with open(at / "file", "w+b") as file:
        file.write(b"content")
        file.flush()
        os.unlink(at / "file")
        assert not list(host.iterdir())
        assert os.fstat(file.fileno()).st_nlink == 0
        os.ftruncate(file.fileno(), 3)
        os.fchmod(file.fileno(), 0o600)
        file.seek(0)
        assert file.read() == b"con"
        (at / "file").write_bytes(b"another")  # perhaps with the inode number that is free by now
        file.seek(0)
        assert file.read() == b"con"
    assert (at / "file").read_bytes() == b"another"


def test_rename_over(at: Path, host: Path) -> None:
    """Renaming replaces the target, whose open descriptor keeps the old content."""
    (at / "new").write_bytes(b"new")
    (at / "old").write_bytes(b"old")
    with open(at / "old", "rb") as before:
        os.rename(at / "new", at / "old")
        assert before.read() == b"old"
    assert (at / "old").read_bytes() == b"new"
    assert os.listdir(at) == os.listdir(host) == ["old"]


def test_rename_directory(at: Path) -> None:
    """What is below a directory that was moved is found, and what was open stays so."""
    (at / "a" / "b").mkdir(parents=True)
    (at / "a" / "b" / "file").write_bytes(b"deep")
    (at / "c").mkdir()
    with open(at / "a" / "b" / "file", "rb") as file:
        os.rename(at / "a", at / "c" / "moved")
        assert file.read() == b"deep"
    assert (at / "c" / "moved" / "b" / "file").read_bytes() == b"deep"
    (at / "c" / "moved" / "b" / "more").touch()
    with fails(errno.ENOTEMPTY):
        os.rmdir(at / "c" / "moved")
    with fails(errno.EINVAL):
        os.rename(at / "c", at / "c" / "moved" / "below")


def test_hard_links(at: Path, host: Path) -> None:
    """Two names of one file are one file: number, count and content, also after one goes."""
    (at / "one").write_bytes(b"content")
    os.link(at / "one", at / "two")
    assert (at / "one").stat().st_nlink == (at / "two").stat().st_nlink == 2
    assert (at / "one").samefile(at / "two")
    with open(at / "two", "ab") as file:
        file.write(b", more")
    assert (at / "one").read_bytes() == b"content, more"
    os.unlink(at / "one")
    assert (at / "two").stat().st_nlink == (host / "two").stat().st_nlink == 1
    os.rename(at / "two", at / "one")
    assert (at / "one").read_bytes() == b"content, more"


def test_hard_link_of_an_unseen_name(at: Path, host: Path) -> None:
    """A descriptor stays good when its name goes but others, which the mount never saw, remain."""
    (host / "seen").write_bytes(b"content")
    os.link(host / "seen", host / "unseen")
    fd = os.open(at / "seen", os.O_PATH)
    try:
        os.unlink(at / "seen")
        assert os.fstat(fd).st_size == len(b"content")
    finally:
        os.close(fd)


def test_symbolic_links(at: Path) -> None:
    """Links are made, read and followed, within the mount and out of it, as the kernel's business."""
    (at / "dir").mkdir()
    (at / "dir" / "file").write_bytes(b"content")
    os.symlink("dir/file", at / "link")
    os.symlink("/etc/hostname", at / "out")
    os.symlink("nowhere", at / "dangling")
    assert os.readlink(at / "link") == "dir/file"
    assert (at / "link").read_bytes() == b"content"
    assert (at / "out").read_bytes() == Path("/etc/hostname").read_bytes()
    assert (at / "dangling").is_symlink()
    with fails(errno.ENOENT):
        (at / "dangling").stat()


def test_permissions_and_owner(at: Path, host: Path) -> None:
    """Mode and owner are set, and seen on both sides; set-user-id files of its user the gofer makes for nobody."""
    (at / "file").touch()
    with fails(errno.EPERM):
        os.chmod(at / "file", 0o4755)
    os.chown(at / "file", 1234, 2345)
    os.chmod(at / "file", 0o641)
    for side in (at, host):
        info = (side / "file").stat()
        assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o641, 1234, 2345)


def test_permissions_are_checked(shared: Mounted, at: Path) -> None:
    """Another user gets no further than the modes allow (and without allow_other, not even there)."""
    (at / "file").touch(mode=0o600)
    child = os.fork()
    if not child:
        try:
            os.setuid(65534)
            os.open(at / "file", os.O_RDONLY)
        except PermissionError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_times(at: Path, host: Path) -> None:
    """Times are kept to the nanosecond, one left alone when told so."""
    (at / "file").touch()
    os.utime(at / "file", ns=(1_000_000_001_123_456_789, 1_000_000_002_987_654_321))
    for side in (at, host):
        info = (side / "file").stat()
        assert info.st_atime_ns == 1_000_000_001_123_456_789
        assert info.st_mtime_ns == 1_000_000_002_987_654_321
    before = (at / "file").stat()
    with open(at / "file", "ab") as file:
        file.write(b"x")
    assert (at / "file").stat().st_mtime_ns > before.st_mtime_ns


def test_attributes_follow_own_changes(at: Path) -> None:
    """What this mount changed is seen at once, however long attributes may be kept."""
    path = at / "file"
    path.write_bytes(b"1")
    assert path.stat().st_size == 1
    with open(path, "ab", buffering=0) as file:
        for size in range(2, 6):
            file.write(b"x")
            assert path.stat().st_size == size
    before = at.stat()
    (at / "sub").mkdir()
    assert at.stat().st_nlink == before.st_nlink + 1
    (at / "sub").rmdir()
    assert not (at / "sub").exists()
    assert at.stat().st_nlink == before.st_nlink


def test_others_changes_are_seen_in_time(at: Path, host: Path) -> None:
    """What others change is seen once the attributes are older than --cache says; an open file's content too."""
    (at / "file").write_bytes(b"old content")
    assert (at / "file").read_bytes() == b"old content"
    (host / "file").write_bytes(b"new")
    with open(at / "file", "rb") as file:
        _until(lambda: os.fstat(file.fileno()).st_size == 3)
        assert file.read() == b"new"
    (host / "file").unlink()
    _until(lambda: not (at / "file").exists())
    (host / "late").touch()
    _until(lambda: (at / "late").exists())


def _until(true: object) -> None:
    event = threading.Event()
    for _ in range(200):
        if true():  # type: ignore[operator]
            return
        event.wait(0.02)
    pytest.fail("never came true")


def test_xattrs(at: Path, host: Path) -> None:
    """Extended attributes of the user: set, read, listed and removed, with the kernel's flags."""
    (at / "file").touch()
    os.setxattr(at / "file", "user.one", b"1" * 1000)
    os.setxattr(at / "file", "user.two", b"")
    assert os.getxattr(host / "file", "user.one") == b"1" * 1000
    assert sorted(os.listxattr(at / "file")) == ["user.one", "user.two"]
    with fails(errno.EEXIST):
        os.setxattr(at / "file", "user.one", b"2", os.XATTR_CREATE)
    with fails(errno.ENODATA):
        os.setxattr(at / "file", "user.three", b"3", os.XATTR_REPLACE)
    os.removexattr(at / "file", "user.one")
    with fails(errno.ENODATA):
        os.getxattr(at / "file", "user.one")
    with fails(errno.EOPNOTSUPP):
        os.setxattr(at / "file", "trusted.one", b"1")


def test_statvfs(at: Path, host: Path) -> None:
    """The file system's size is that of the gofer's."""
    ours, theirs = os.statvfs(at), os.statvfs(host)
    assert (ours.f_frsize, ours.f_blocks, ours.f_files) == (theirs.f_frsize, theirs.f_blocks, theirs.f_files)
    assert ours.f_namemax == theirs.f_namemax


def test_fifo(at: Path, host: Path) -> None:
    """A FIFO's node is made through the mount; what it carries is the kernel's business on this side."""
    os.mkfifo(at / "fifo", 0o600)
    assert stat.S_ISFIFO((host / "fifo").stat().st_mode)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((at / "fifo").read_bytes()))
    reader.start()
    (at / "fifo").write_bytes(b"through")
    reader.join(10)
    assert got == [b"through"]


def test_devices_are_refused(at: Path) -> None:
    """No device nodes."""
    with fails(errno.EPERM):
        os.mknod(at / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))


def test_mmap(at: Path, host: Path) -> None:
    """Mapped reads see the file, mapped writes reach it."""
    content = os.urandom(3 * mmap.PAGESIZE + 5)
    (at / "file").write_bytes(content)
    with open(at / "file", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        assert mapped[:] == content
        mapped[4090:4100] = b"0123456789"
        mapped.flush()
    assert (host / "file").read_bytes() == content[:4090] + b"0123456789" + content[4100:]


def test_names_are_bytes(at: Path, host: Path) -> None:
    """A name that is not UTF-8, and the longest there is."""
    for name in (LATIN1, b"x" * 255, b"new\nline", b"-rf"):
        path = os.path.join(os.fsencode(at), name)
        with open(path, "wb") as file:
            file.write(name)
        with open(os.path.join(os.fsencode(host), name), "rb") as file:
            assert file.read() == name
    assert sorted(os.listdir(os.fsencode(at))) == sorted(os.listdir(os.fsencode(host)))
    with fails(errno.ENAMETOOLONG):
        (at / ("x" * 256)).touch()


def test_large_directory(at: Path, host: Path) -> None:
    """Every entry once, with its attributes, also when listed by many requests; and again after a change."""
    names = {f"{number:04}-{'n' * (number % 40)}" for number in range(1500)}
    for name in names:
        (host / name).touch()
    with os.scandir(at) as entries:
        found = [(entry.name, entry.stat().st_ino) for entry in entries]
    assert sorted(name for name, _ in found) == sorted(names)
    assert dict(found) == {name: (host / name).stat().st_ino for name in names}
    (at / "one more").touch()
    assert set(os.listdir(at)) == names | {"one more"}


def test_seeking_in_a_directory(at: Path, host: Path) -> None:
    """telldir and seekdir, forwards and back, in a directory of many answers; and rewinddir sees what is new."""
    for number in range(6000):
        (host / f"{number}").touch()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    directory = ctypes.c_void_p(libc.opendir(os.fsencode(at)))

    def read() -> bytes | None:
        entry = libc.readdir(directory)
        return ctypes.string_at(entry + 19) if entry else None  # struct dirent64: d_name

    found, places = [], []
    while (name := read()) is not None:
        found.append(name)
        places.append(libc.telldir(directory))
    assert sorted(found) == sorted(os.listdir(os.fsencode(host)))
    for index in (5500, 10, 5999, 4000, 0, 5000):
        libc.seekdir(directory, ctypes.c_long(places[index]))
        assert read() == (found[index + 1] if index + 1 < len(found) else None)
    (at / "new").touch()
    libc.rewinddir(directory)
    names = set(iter(read, None))
    assert names == {*found, b"new"}
    libc.closedir(directory)


def test_removing_while_listing(at: Path) -> None:
    """rm -r's way: remove what was just listed, until nothing is there."""
    for number in range(300):
        (at / f"{number}").touch()
    with os.scandir(at) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(at) == []


def test_fsync(at: Path) -> None:
    """File and directory."""
    with open(at / "file", "wb") as file:
        file.write(b"x")
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
    fd = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


def test_working_directory_that_is_gone(at: Path) -> None:
    """A directory somebody is in can be removed; then nothing can be made there."""
    (at / "gone").mkdir()
    fd = os.open(at / "gone", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(at / "gone")
    with fails(errno.ENOENT):
        os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(fd)
