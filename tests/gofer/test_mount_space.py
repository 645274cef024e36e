"""fallocate and holes on the mount: the same as on the file system below it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from gofer_support import fails
from mount_support import HOLE as SIZE
from mount_support import Mounted, eventually, fallocate, is_stopped, mounted, needs_rows, sparse

pytestmark = [needs_rows, pytest.mark.timeout(40)]

KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE, UNSHARE_RANGE = 1, 2, 8, 16, 32, 64
SMALL = b"came along with the open"
MODES = {
    "reserve": 0,
    "keep-size": KEEP_SIZE,
    "punch": PUNCH_HOLE | KEEP_SIZE,
    "punch-alone": PUNCH_HOLE,
    "zero": ZERO_RANGE,
    "zero-keep-size": ZERO_RANGE | KEEP_SIZE,
    "unknown": 1 << 20,
}
RANGES = [
    (0, SIZE), (4096, 8192), (100, 5000), (SIZE - 4096, 8192), (SIZE * 2, 4096),
    (0, 0), (-1, 4096), (0, -1), (1 << 62, 1 << 62), (0, (1 << 63) - 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """One mount for the module, which keeps what it knows until it changes that itself."""
    with mounted(tmp_path_factory.mktemp("mount"), options=("--cache", "60")) as found:
        assert found.mount.line() == "gofer: fallocate and holes: available\n"
        yield found


def outcome(path: Path, *steps: tuple[int, int, int]) -> tuple[list[str], int, int, bytes]:
    """What some fallocates do to a file of data: their errors, its size, blocks and content."""
    with open(path, "w+b", buffering=0) as file:
        file.write(bytes(range(1, 256)) * (SIZE // 255))
        os.fsync(file.fileno())
        before = os.stat(path)
        said = [errno.errorcode.get(fallocate(file.fileno(), *step), "done") for step in steps]
        os.fsync(file.fileno())
        after = os.stat(path)  # by name: what the kernel kept of before must not answer
        assert after.st_mtime_ns > before.st_mtime_ns or "done" not in said
    return said, after.st_size, after.st_blocks, path.read_bytes()


@pytest.mark.parametrize("mode", MODES)
def test_as_on_the_host(at: Path, host: Path, mode: str) -> None:
    """Each mode, over whole pages and parts, within the file, beyond it and out of bounds."""
    for offset, length in RANGES:
        step = (MODES[mode], offset, length)
        assert outcome(at / "mounted", step) == outcome(host / "direct", step), (offset, length)


def test_one_after_the_other(at: Path, host: Path) -> None:
    """Reserved, emptied, emptied where nothing is, zeroed past the end: it adds up."""
    steps = (
        (0, 0, SIZE * 2),
        (PUNCH_HOLE | KEEP_SIZE, 0, SIZE),
        (PUNCH_HOLE | KEEP_SIZE, 8192, 4096),
        (KEEP_SIZE, SIZE * 4, SIZE),
        (ZERO_RANGE, SIZE, SIZE * 3),
    )
    ours = outcome(at / "mounted", *steps)
    assert ours == outcome(host / "direct", *steps)
    assert ours[0][:4] == ["done"] * 4  # the last, not every host's file system has


@pytest.mark.parametrize("mode", [COLLAPSE_RANGE, INSERT_RANGE, UNSHARE_RANGE])
def test_what_fuse_does_not_pass_on(at: Path, mode: int) -> None:
    """The kernel refuses what FUSE has no request for, whatever the host's file system could do."""
    said, size, _, content = outcome(at / "file", (mode, 0, 4096))
    assert (said, size) == ([errno.errorcode[errno.EOPNOTSUPP]], len(content))


def test_posix_fallocate(at: Path, host: Path) -> None:
    """Space is reserved and what was there is kept."""
    with open(at / "file", "w+b") as file:
        file.write(b"kept")
        file.flush()
        os.posix_fallocate(file.fileno(), 0, 1 << 16)
        file.seek(0)
        assert file.read(5) == b"kept\0"
        with fails(errno.EFBIG):
            os.posix_fallocate(file.fileno(), 0, 1 << 62)
    assert (at / "file").stat().st_size == (host / "file").stat().st_size == 1 << 16
    assert (at / "file").stat().st_blocks * 512 >= 1 << 16


def test_not_for_writing(at: Path) -> None:
    """Only who may write may reserve: EBADF, before the gofer is asked."""
    (at / "file").write_bytes(b"content")
    for path in (at / "file", at):
        fd = os.open(path, os.O_RDONLY)
        assert fallocate(fd, 0, 0, 4096) == errno.EBADF
        os.close(fd)


def test_readers_see_it(at: Path, host: Path) -> None:
    """Who has read a file, whose content came along with the open, reads zeros where a hole is made."""
    (host / "file").write_bytes(b"x" * 8192)
    with open(at / "file", "rb", buffering=0) as reader:
        assert os.pread(reader.fileno(), 8192, 0) == b"x" * 8192
        with open(at / "file", "r+b", buffering=0) as writer:
            assert fallocate(writer.fileno(), PUNCH_HOLE | KEEP_SIZE, 0, 4096) == 0
        assert os.pread(reader.fileno(), 8192, 0) == bytes(4096) + b"x" * 4096
    assert (at / "file").read_bytes() == (host / "file").read_bytes() == bytes(4096) + b"x" * 4096


def test_full(tmp_path: Path) -> None:
    """ENOSPC when the gofer's disk has not so much; what there was is intact."""
    (tmp_path / "tree").mkdir()
    tmpfs = ("mount", "-t", "tmpfs", "-o", "size=256k", "none", str(tmp_path / "tree"))
    if subprocess.run(tmpfs, check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        with mounted(tmp_path) as mount, open(mount.at / "file", "w+b", buffering=0) as file:
            file.write(b"a" * 65536)
            assert fallocate(file.fileno(), 0, 0, 1 << 20) == errno.ENOSPC
            with fails(errno.ENOSPC):
                os.posix_fallocate(file.fileno(), 0, 1 << 20)
            assert fallocate(file.fileno(), 0, 0, 131072) == 0
            assert (mount.at / "file").read_bytes() == b"a" * 65536 + bytes(65536)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "tree")], check=True)


def test_read_only(tmp_path: Path) -> None:
    """Of a read-only tree, nothing can be opened to reserve room in it, and holes are found."""
    (tmp_path / "tree").mkdir()
    sparse(tmp_path / "tree" / "file")
    with mounted(tmp_path, serve=("--read-only",)) as mount:
        with fails(errno.EROFS):
            os.open(mount.at / "file", os.O_RDWR)
        fd = os.open(mount.at / "file", os.O_RDONLY)
        assert fallocate(fd, 0, 0, 4096) == errno.EBADF
        assert os.lseek(fd, 0, os.SEEK_DATA) == SIZE
        os.close(fd)


def test_gofer_gone_and_back(tmp_path: Path) -> None:
    """EIO while it is gone, ESTALE for what was open when it is back; a file opened anew works."""
    with mounted(tmp_path, options=("--cache", "0")) as mount:
        file = open(mount.at / "file", "w+b", buffering=0)  # noqa: SIM115
        sparse(mount.tree / "sparse")
        reader = os.open(mount.at / "sparse", os.O_RDONLY)
        assert os.lseek(reader, 0, os.SEEK_DATA) == SIZE
        mount.gofer.kill()
        for _ in range(2):
            assert fallocate(file.fileno(), 0, 0, 4096) == errno.EIO
            with fails(errno.EIO):
                os.lseek(reader, 0, os.SEEK_DATA)
        mount.start_gofer()
        assert fallocate(file.fileno(), 0, 0, 4096) == errno.ESTALE
        with fails(errno.ESTALE):
            os.lseek(reader, 0, os.SEEK_DATA)
        file.close()
        os.close(reader)
        assert (mount.at / "file").stat().st_size == 0
        with open(mount.at / "file", "r+b") as again:
            assert fallocate(again.fileno(), 0, 0, 4096) == 0
        assert (mount.at / "file").stat().st_size == 4096
        assert mount.mount.stop() == (0, "")


class Waiting(NamedTuple):
    """A fallocate that waits for a gofer which is stopped."""

    mount: Mounted
    waiter: threading.Thread
    said: list[int]
    """Its errno, once it has one."""
    small: int
    """Another file, whose content came along with its open."""


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    """The gofer is stopped, and the fallocate under way."""
    with mounted(tmp_path, options=("--cache", "60")) as mount, contextlib.ExitStack() as stack:
        (mount.tree / "small").write_bytes(SMALL)
        small = os.open(mount.at / "small", os.O_RDONLY)
        file = os.open(mount.at / "file", os.O_CREAT | os.O_RDWR)
        for fd in (small, file):
            stack.enter_context(contextlib.suppress(OSError))  # the mount may be gone
            stack.callback(os.close, fd)
        said: list[int] = []
        waiter = threading.Thread(target=lambda: said.append(fallocate(file, 0, 0, 4096)))
        os.kill(mount.gofer.pid, signal.SIGSTOP)
        try:
            eventually(lambda: is_stopped(mount.gofer.pid))
            threads = Path(f"/proc/{mount.mount.pid}/task")
            before = len(list(threads.iterdir()))
            waiter.start()
            eventually(lambda: len(list(threads.iterdir())) > before)  # one has been given the call
            yield Waiting(mount, waiter, said, small)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(mount.gofer.pid, signal.SIGCONT)
            waiter.join()


def test_gofer_dies_meanwhile(waiting: Waiting) -> None:
    """EIO for a fallocate that is under way when the gofer dies; nobody waits for ever."""
    waiting.mount.gofer.kill()
    waiting.waiter.join(20)
    assert waiting.said == [errno.EIO]


def test_others_are_served_meanwhile(waiting: Waiting) -> None:
    """While a fallocate waits for the gofer, what the mount can answer without it is answered."""
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(os.pread(waiting.small, 4096, 0)))
    reader.start()
    reader.join(10)
    assert (read, waiting.said) == ([SMALL], [])
    os.kill(waiting.mount.gofer.pid, signal.SIGCONT)
    waiting.waiter.join(20)
    assert waiting.said == [0]
    assert (waiting.mount.at / "file").stat().st_size == 4096


def test_the_end_waits_for_it(waiting: Waiting) -> None:
    """A signal ends the mount when the fallocate has its answer."""
    os.kill(waiting.mount.mount.pid, signal.SIGTERM)
    assert not waiting.mount.mount.ended(0.2)
    os.kill(waiting.mount.gofer.pid, signal.SIGCONT)
    waiting.waiter.join(20)
    assert waiting.said == [0]
    assert waiting.mount.mount.wait() == (0, "")


def test_unmounted_meanwhile(waiting: Waiting) -> None:
    """A first signal waits for it, a second one does not: the mount ends, and who asked gets an error."""
    os.kill(waiting.mount.mount.pid, signal.SIGTERM)
    assert not waiting.mount.mount.ended(0.2)
    pause = threading.Event()
    for _ in range(100):
        os.kill(waiting.mount.mount.pid, signal.SIGTERM)
        if waiting.mount.mount.ended(0.1):
            break
        pause.wait(0.05)
    waiting.waiter.join(20)
    assert waiting.said == [errno.ECONNABORTED]
    assert not waiting.mount.is_mounted()


def places(path: Path) -> list[int | str]:
    """Where lseek finds data and holes, from everywhere."""
    fd = os.open(path, os.O_RDONLY)
    found: list[int | str] = []
    for offset in (
        -1,
        0,
        1,
        SIZE - 1,
        SIZE,
        SIZE + 4095,
        SIZE + 4096,
        SIZE * 2 + 4095,
        SIZE * 2 + 4096,
        1 << 40,
    ):
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            try:
                found.append(os.lseek(fd, offset, whence))
            except OSError as error:
                found.append(errno.errorcode[error.errno])
    os.close(fd)
    return found


def test_holes(at: Path, host: Path) -> None:
    """Holes and data are where they are at the host's; also where a hole was made, once the file is closed."""
    sparse(at / "file")
    assert places(at / "file") == places(host / "file")
    assert SIZE in places(at / "file")
    with open(at / "file", "r+b") as file:
        assert fallocate(file.fileno(), PUNCH_HOLE | KEEP_SIZE, SIZE, 4096) == 0
    assert places(at / "file") == places(host / "file")
    with open(at / "file", "rb") as file, fails(errno.ENXIO):
        os.lseek(file.fileno(), 0, os.SEEK_DATA)


def test_position(at: Path) -> None:
    """lseek moves the position that reads go on from."""
    sparse(at / "file")
    fd = os.open(at / "file", os.O_RDONLY)
    os.lseek(fd, 0, os.SEEK_DATA)
    assert os.read(fd, 2) == b"dd"
    os.close(fd)


def test_no_holes_where_somebody_writes(at: Path) -> None:
    """While a file is open for writing, it is data to its end: what was written through a mapping is in it."""
    sparse(at / "file")
    with open(at / "file", "r+b") as writer, open(at / "file", "rb") as reader:
        with mmap.mmap(writer.fileno(), 0) as mapped:
            mapped[8192] = 1  # in a page of the kernel's, which the mount has not been sent
            assert os.lseek(reader.fileno(), 0, os.SEEK_DATA) <= 8192
            assert os.lseek(reader.fileno(), 1, os.SEEK_HOLE) == SIZE * 2 + 4096
            for offset, whence in itertools.product((-1, SIZE * 2 + 4096), (os.SEEK_DATA, os.SEEK_HOLE)):
                with fails(errno.ENXIO):
                    os.lseek(reader.fileno(), offset, whence)
        writer.close()
        assert os.lseek(reader.fileno(), 0, os.SEEK_DATA) == 8192


def test_copies_stay_sparse(at: Path, host: Path) -> None:
    """cp and tar, which look for holes, do not fill them."""
    sparse(at / "file")
    subprocess.run(["cp", "file", "copy"], cwd=at, check=True)
    subprocess.run(["tar", "-cSf", "archive", "file"], cwd=at, check=True)
    assert (host / "copy").read_bytes() == (host / "file").read_bytes()
    assert (at / "copy").stat().st_blocks == (host / "file").stat().st_blocks
    assert (at / "archive").stat().st_size < SIZE


def test_commands(at: Path, host: Path) -> None:
    """fallocate(1) reserves, and digs holes where zeros are."""
    subprocess.run(["fallocate", "-l", "256K", "file"], cwd=at, check=True)
    assert (host / "file").stat().st_blocks * 512 >= SIZE
    (at / "zeros").write_bytes(bytes(SIZE) + b"end")
    subprocess.run(["fallocate", "--dig-holes", "zeros"], cwd=at, check=True)
    assert (host / "zeros").stat().st_blocks * 512 < SIZE
    assert (at / "zeros").read_bytes() == bytes(SIZE) + b"end"
