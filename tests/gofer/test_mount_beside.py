"""The mount beside the file system of the host: what is asked less often ends alike, or in a documented errno."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mount_support import Mounted, mounted, needs_mount

pytestmark = [needs_mount, pytest.mark.timeout(120)]

libc = ctypes.CDLL(None, use_errno=True)
_XATTR_CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw+ep, v2
_NOBODY = 0xFFFFFFFF
_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, who)
    for tag, permissions, who in (
        (1, 6, _NOBODY), (2, 4, 1000), (4, 4, _NOBODY), (16, 4, _NOBODY), (32, 4, _NOBODY)
    )
)  # fmt: skip
_RENAME_WHITEOUT = 4
_FS_IOC_GETFLAGS = 0x80086601


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """One mount for the module."""
    with mounted(tmp_path_factory.mktemp("mount")) as found:
        yield found


@pytest.fixture
def at(shared: Mounted, request: pytest.FixtureRequest) -> Path:
    """The test's directory, on the mount."""
    path = shared.at / request.node.name.translate(str.maketrans("[]/ ", "____"))
    path.mkdir()
    return path


def locked_out(path: Path, lock: str) -> str:
    """Whether another process gets the lock of a file."""
    script = (
        f"import fcntl, sys\nf = open(sys.argv[1], 'r+')\ntry: fcntl.{lock}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: print('no')\nelse: print('yes')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    return done.stdout


def flock(top: Path) -> object:
    """A lock of one process is there for another, and goes with its file."""
    path = top / "locked"
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        while_held = locked_out(path, "flock")
    return while_held, locked_out(path, "flock")


def lockf(top: Path) -> object:
    """The same for POSIX locks."""
    path = top / "locked"
    with open(path, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        while_held = locked_out(path, "lockf")
    return while_held, locked_out(path, "lockf")


def shared_mapping(top: Path) -> object:
    """What is written through a mapping is in the file, up to its last odd byte."""
    with open(top / "mapped", "w+b") as file:
        file.truncate(3 * mmap.PAGESIZE + 17)
        with mmap.mmap(file.fileno(), 0) as memory:
            memory[5000:5005], memory[-3:] = b"hello", b"end"
            memory.flush()
    return (top / "mapped").read_bytes()


def direct(top: Path) -> object:
    """O_DIRECT, with memory as it wants it."""
    fd = os.open(top / "direct", os.O_DIRECT | os.O_RDWR | os.O_CREAT)
    with mmap.mmap(-1, 8192) as memory:
        memory[:4] = b"abcd"
        written = os.pwritev(fd, [memory], 0)
        memory[:4] = b"...."
        read = os.preadv(fd, [memory], 0)
        os.close(fd)
        return written, read, memory[:4]


def beyond_4_gib(top: Path) -> object:
    """An offset of more than 32 bits."""
    fd = os.open(top / "large", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"tail", (5 << 30) + 7)
    found = os.pread(fd, 4, (5 << 30) + 7), os.fstat(fd).st_size, os.fstat(fd).st_blocks < 100
    os.close(fd)
    return found


def longest_name(top: Path) -> object:
    """255 bytes, none of them text."""
    name = b"\xff\n" * 127 + b"x"
    path = os.path.join(os.fsencode(top), name)
    open(path, "w").close()
    found = name in os.listdir(os.fsencode(top))
    os.unlink(path)
    return found


def saved_as_vim_does(top: Path) -> object:
    """The old file becomes the backup, a new one is written and brought to the disk, the backup goes."""
    path = top / "document"
    path.write_text("old")
    os.rename(path, top / "document~")
    with open(path, "w") as file:
        file.write("new")
        file.flush()
        os.fsync(file.fileno())
    os.unlink(top / "document~")
    return path.read_text(), os.listdir(top).count("document")


def running_program(top: Path) -> object:
    """A program runs, and cannot be written meanwhile."""
    shutil.copy2("/bin/cat", top / "cat")
    with subprocess.Popen([top / "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"x")
        program.stdin.flush()
        assert program.stdout.read(1) == b"x"  # it runs
        try:
            open(top / "cat", "r+b").close()
            said = "opened"
        except OSError as error:
            said = errno.errorcode[error.errno or 0]
        program.stdin.close()
    return said, program.returncode


def unix_socket(top: Path) -> object:
    """A socket of this machine's processes, by its name in the tree."""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        os.chdir(top)
        try:
            listening.bind("socket")
            listening.listen()
            client.connect("socket")
        finally:
            os.chdir("/")
        with listening.accept()[0] as server:
            client.send(b"through")
            return server.recv(10)


def watched(top: Path) -> object:
    """inotify tells of what is done here."""
    fd = libc.inotify_init1(os.O_NONBLOCK)
    libc.inotify_add_watch(fd, os.fsencode(top), 0x100 | 0x40 | 0x80 | 0x200 | 0x2)
    (top / "one").write_text("x")
    os.rename(top / "one", top / "two")
    os.unlink(top / "two")
    told, masks = os.read(fd, 1 << 16), []
    os.close(fd)
    while told:
        _, mask, _, length = struct.unpack_from("iIII", told)
        masks.append(mask)
        told = told[16 + length :]
    return masks


def chown_and_chmod_recursively(top: Path) -> object:
    """As programs do it, with fchmodat and directory descriptors."""
    (top / "r" / "a" / "b").mkdir(parents=True)
    (top / "r" / "a" / "f").touch()
    for command in (["chown", "-R", "7:8"], ["chmod", "-R", "u=rwX,go="]):
        subprocess.run([*command, top / "r"], check=True)
    return [
        (path.stat().st_mode, path.stat().st_uid, path.stat().st_gid)
        for path in sorted((top / "r").rglob("*"))
    ]


def negative_times(top: Path) -> object:
    """Before 1970, and of a symbolic link itself."""
    (top / "timed").touch()
    os.symlink("nowhere", top / "link")
    os.utime(top / "timed", ns=(-(10**18) - 1, -5))
    os.utime(top / "link", ns=(5, 7), follow_symlinks=False)
    return (top / "timed").stat().st_mtime_ns, (top / "link").lstat().st_mtime_ns


def copied_by_the_kernel(top: Path) -> object:
    """copy_file_range(2) and sendfile(2)."""
    (top / "from").write_bytes(os.urandom(100_000))
    with (
        open(top / "from", "rb") as source,
        open(top / "to", "wb") as target,
        open(top / "sent", "wb") as sent,
    ):
        count = 0
        while done := os.copy_file_range(source.fileno(), target.fileno(), 100_000, count, count):
            count += done
        os.sendfile(sent.fileno(), source.fileno(), 0, 100_000)
    content = (top / "from").read_bytes()
    return count, (top / "to").read_bytes() == content, (top / "sent").read_bytes() == content


def deep(top: Path) -> object:
    """A path much longer than PATH_MAX, made step by step and removed at once."""
    os.chdir(top)
    try:
        for _ in range(300):
            os.mkdir("d" * 20)
            os.chdir("d" * 20)
        return len(os.getcwd()) > 6000
    finally:
        os.chdir("/")
        subprocess.run(["rm", "-rf", top / ("d" * 20)], check=True)


def five_thousand_removed(top: Path) -> object:
    """rm -r reads a directory while it removes what it reads."""
    (top / "many").mkdir()
    for number in range(5000):
        (top / "many" / str(number)).touch()
    return subprocess.run(["rm", "-r", top / "many"], check=False).returncode, (top / "many").exists()


def hard_link_counts(top: Path) -> object:
    """Of a file and of a directory."""
    (top / "links" / "a").mkdir(parents=True)
    (top / "file").touch()
    os.link(top / "file", top / "second")
    os.link(top / "second", top / "third")
    os.unlink(top / "file")
    return (top / "second").stat().st_nlink, (top / "third").stat().st_nlink, (top / "links").stat().st_nlink


SAME: list[Callable[[Path], object]] = [
    flock, lockf, shared_mapping, direct, beyond_4_gib, longest_name, saved_as_vim_does,
    running_program, unix_socket, watched, chown_and_chmod_recursively, negative_times, copied_by_the_kernel, deep,
    five_thousand_removed, hard_link_counts,
]  # fmt: skip


def outcome(attempt: Callable[[Path], object], top: Path) -> object:
    """What it gives, or the name of its errno."""
    try:
        return attempt(top)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


@pytest.mark.parametrize("attempt", SAME, ids=lambda one: one.__name__)
def test_as_at_the_host(attempt: Callable[[Path], object], at: Path, tmp_path: Path) -> None:
    """What works at the host works here, and what fails there fails here with the same errno."""
    assert outcome(attempt, at) == outcome(attempt, tmp_path)


def whiteout(top: Path) -> object:
    """A rename that leaves a device behind."""
    (top / "old").touch()
    paths = os.fsencode(top / "old"), os.fsencode(top / "new")
    if libc.renameat2(-100, paths[0], -100, paths[1], _RENAME_WHITEOUT):
        raise OSError(ctypes.get_errno(), "renameat2")
    return None


def with_file(operation: Callable[[str], object]) -> Callable[[Path], object]:
    """An operation on a file that is there."""

    def attempt(top: Path) -> object:
        (top / "file").touch()
        return operation(str(top / "file"))

    return attempt


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "O_TMPFILE": (lambda top: os.open(top, os.O_TMPFILE | os.O_RDWR, 0o600), "EOPNOTSUPP"),
    "a capability of a file": (
        with_file(lambda path: os.setxattr(path, "security.capability", _XATTR_CAPABILITY)),
        "EOPNOTSUPP",
    ),
    "a trusted attribute": (with_file(lambda path: os.setxattr(path, "trusted.x", b"")), "EOPNOTSUPP"),
    "an ACL": (with_file(lambda path: os.setxattr(path, "system.posix_acl_access", _ACL)), "EOPNOTSUPP"),
    "reading an ACL": (with_file(lambda path: os.getxattr(path, "system.posix_acl_access")), "EOPNOTSUPP"),
    "set-user-id": (with_file(lambda path: os.chmod(path, 0o4755)), "EPERM"),
    "set-group-id": (lambda top: os.chmod(top, 0o2755), "EPERM"),
    "a device": (lambda top: os.mknod(top / "d", stat.S_IFCHR | 0o600, os.makedev(1, 3)), "EPERM"),
    "a whiteout": (whiteout, "EINVAL"),
    "flags of a file": (
        with_file(lambda path: fcntl.ioctl(open(path), _FS_IOC_GETFLAGS, bytes(8))),  # noqa: SIM115
        "ENOTTY",
    ),
}
"""What the gofer or the kernel refuses on the mount, and how; docs/gofer-mount.md has the same list."""


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str, at: Path) -> None:
    """What there is not, there is a documented errno for."""
    attempt, code = REFUSED[what]
    found = outcome(attempt, at)
    assert errno.errorcode[getattr(errno, code)] == found


def test_copied_by_programs(at: Path, tmp_path: Path) -> None:
    """cp -a and rsync bring a tree with links, FIFOs, holes and times; a second rsync has nothing to do."""
    source = tmp_path / "source"
    (source / "dir" / "empty").mkdir(parents=True)
    (source / "dir" / "file").write_bytes(os.urandom(300_000))
    os.link(source / "dir" / "file", source / "same")
    os.symlink("dir/file", source / "link")
    os.mkfifo(source / "fifo", 0o620)
    with open(source / "sparse", "wb") as file:
        file.truncate(50 << 20)
        file.write(b"x")
    os.setxattr(source / "dir" / "file", "user.kind", b"test")
    for path in (source, *source.rglob("*")):  # rsync leaves a time of this very second as it is
        os.utime(path, ns=(10**18, 10**18 + 1), follow_symlinks=False)
    subprocess.run(["cp", "-a", "--sparse=always", f"{source}/.", at / "cp"], check=True)
    assert listed(at / "cp") == listed(source)
    assert os.getxattr(at / "cp" / "dir" / "file", "user.kind") == b"test"
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed; cp -a was compared")
    for _ in range(2):
        subprocess.run(["rsync", "-aHX", "--sparse", f"{source}/", f"{at}/rsync/"], check=True)
    assert listed(at / "rsync") == listed(source)
    again = subprocess.run(
        ["rsync", "-aHXn", "--checksum", "--itemize-changes", f"{source}/", f"{at}/rsync/"],
        check=True,
        capture_output=True,
    )
    assert again.stdout == b""


def listed(top: Path) -> list[tuple[object, ...]]:
    """Everything below, with what a copy is to keep."""
    found: list[tuple[object, ...]] = []
    for path in sorted(top.rglob("*")):
        info = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        target = os.readlink(path) if stat.S_ISLNK(info.st_mode) else ""
        what = (str(path.relative_to(top)), info.st_mode, info.st_nlink, info.st_mtime_ns, content, target)
        found.append((*what, info.st_blocks < 20_000))
    return found
