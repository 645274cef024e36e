"""No memory, no space, no descriptors: the error says so, and nothing is left behind."""

import errno
import json
import mmap
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from forks import nofile_limit, run

from flipcall._core import lib
from flipcall.allocator import MemfdAllocator
from flipcall.errors import WindowTooLargeError, WindowTooSmallError
from flipcall.named import NamedAllocator, NamedWindow
from flipcall.window import PacketWindow

PAGE = mmap.PAGESIZE
SIZE = 16 * PAGE


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def limited(limit: int, value: int | Callable[[], int], body: Callable[[], object], errors: set[int]) -> None:
    """In a child: `body` raises one of `errors` under a soft limit, leaks nothing, and works without it."""

    def child() -> None:
        before, hard = descriptors(), resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (value() if callable(value) else value, hard))
        try:
            body()
        except OSError as exc:
            seen = exc.errno
        else:
            seen = None
        resource.setrlimit(limit, (hard, hard))
        assert seen in errors, seen
        assert descriptors() == before
        body()

    assert run(child) == 0


def memfd() -> None:
    MemfdAllocator().allocate(SIZE).close()


@pytest.mark.parametrize("spare", [0, 1])
def test_memfd_without_descriptors(spare: int) -> None:
    """EMFILE, at the first descriptor or at the one the mapping keeps, leaves none open."""
    if spare and sys.version_info >= (3, 13):
        pytest.skip("from Python 3.13 on the mapping keeps no descriptor")
    memfd()
    limited(resource.RLIMIT_NOFILE, nofile_limit(spare), memfd, {errno.EMFILE})


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_named_without_descriptors(name: str, spare: int) -> None:
    """EMFILE at any of the three descriptors leaves neither descriptor nor name."""
    if spare == 2 and sys.version_info >= (3, 13):
        pytest.skip("from Python 3.13 on the mapping keeps no descriptor")

    def named() -> None:
        try:
            NamedAllocator(name).allocate(SIZE).close()
        finally:
            assert not os.path.exists(f"/dev/shm/flipcall.{name}")

    # /proc/self/stat is read before the first descriptor of the window is made, and needs one itself.
    limited(resource.RLIMIT_NOFILE, nofile_limit(spare), named, {errno.EMFILE})


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_open_without_descriptors(name: str, spare: int) -> None:
    """An attaching side that runs out of descriptors has not claimed the window."""
    if spare == 2 and sys.version_info >= (3, 13):
        pytest.skip("from Python 3.13 on the mapping keeps no descriptor")
    with NamedAllocator(name).allocate(SIZE) as made:
        limited(
            resource.RLIMIT_NOFILE,
            nofile_limit(spare),
            lambda: NamedWindow.open(name).close(),
            {errno.EMFILE},
        )
        assert made.peer is not None  # the second try, without the limit


def test_attach_without_address_space() -> None:
    """A mapping that does not fit closes the descriptor it was given."""

    def attach() -> None:
        with MemfdAllocator().allocate(PAGE):  # proves that the limit leaves room for small ones
            pass
        fd = os.memfd_create("peer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.posix_fallocate(fd, 0, 64 << 20)
        os.set_inheritable(fd, True)
        PacketWindow(fd, 64 << 20).close()

    def room() -> int:  # asked in the child, which has not all that its parent has: stacks of threads
        return int(Path("/proc/self/statm").read_text().split()[0]) * PAGE + (32 << 20)

    limited(resource.RLIMIT_AS, room, attach, {errno.ENOMEM})


def test_memfd_beyond_file_size_limit() -> None:
    """RLIMIT_FSIZE refuses the size; Python ignores the signal that comes along."""
    memfd()
    limited(resource.RLIMIT_FSIZE, PAGE, memfd, {errno.EFBIG})


def test_named_beyond_file_size_limit(name: str) -> None:
    """RLIMIT_FSIZE refuses the size, and the name is gone again."""

    def named() -> None:
        try:
            NamedAllocator(name).allocate(SIZE).close()
        finally:
            assert not os.path.exists(f"/dev/shm/flipcall.{name}")

    limited(resource.RLIMIT_FSIZE, PAGE, named, {errno.EFBIG})


@pytest.mark.parametrize(
    ("length", "error"),
    [
        (-1, WindowTooSmallError),
        (0, WindowTooSmallError),
        (lib.FC_WINDOW_MIN - 1, WindowTooSmallError),
        (lib.FC_WINDOW_MAX + 1, WindowTooLargeError),
        (1 << 64, WindowTooLargeError),
    ],
)
def test_memfd_lengths(length: int, error: type[Exception]) -> None:
    """The protocol's limits hold before anything is made."""
    with pytest.raises(error):
        MemfdAllocator().allocate(length)


# Run with a private /dev/shm of 64 KiB. A window of that size does not fit with its control page, one of half
# the size does; only one that fails must leave nothing.
_ON_A_FULL_DISK = """
import errno, json, os
from flipcall.named import NamedAllocator, NamedWindow
before = len(os.listdir("/proc/self/fd"))
allocator = NamedAllocator("full")
try:
    allocator.allocate(65536)
    seen = None
except OSError as exc:
    seen = exc.errno
result = {"errno": seen, "names": os.listdir("/dev/shm"), "fds": len(os.listdir("/proc/self/fd")) - before}
with allocator.allocate(32768) as made, NamedWindow.open("full") as taken:
    made.buffer[:] = b"x" * made.length
    result["works"] = taken.buffer[32767] == ord("x")
result["free"] = os.statvfs("/dev/shm").f_bfree * os.sysconf("SC_PAGESIZE")
print(json.dumps(result))
"""


def test_named_on_a_full_tmpfs() -> None:
    """ENOSPC comes from the reservation, not as SIGBUS from the first touch, and leaves nothing."""
    if not shutil.which("unshare"):
        pytest.skip("no unshare(1) to make a small /dev/shm with")
    mode = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    mount = "mount -t tmpfs -o size=64k tmpfs /dev/shm"
    probe = subprocess.run(["unshare", *mode, "sh", "-c", mount], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"cannot mount a small /dev/shm in a namespace: {probe.stderr.strip()}")
    out = subprocess.run(
        ["unshare", *mode, "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, _ON_A_FULL_DISK],
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(out.stdout)
    expected = {"errno": errno.ENOSPC, "names": [], "fds": 0, "works": True, "free": 65536}
    assert result == expected
