"""What the receiving side refuses: wrong descriptors, sizes and places, each with its own error."""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path

import posix_ipc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipcall._core import lib
from flipcall.allocator import MemfdAllocator
from flipcall.errors import (
    FlipcallError,
    MisuseError,
    WindowError,
    WindowForeignError,
    WindowTooLargeError,
    WindowTooSmallError,
    WindowTruncatedError,
    WindowUnsealedError,
)
from flipcall.window import SEALS, PacketWindow

PAGE = mmap.PAGESIZE
SIZE = 4 * PAGE
FUTURE_WRITE = 0x10


def memfd(size: int = SIZE, seals: int = SEALS, reserve: bool = True) -> int:
    """A memfd as a peer might have made it."""
    fd = os.memfd_create("peer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if reserve and size:
        os.posix_fallocate(fd, 0, size)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def reopened(flags: int) -> int:
    """A good memfd behind another kind of descriptor."""
    fd = memfd()
    try:
        return os.open(f"/proc/self/fd/{fd}", flags)
    finally:
        os.close(fd)


def pipe_end() -> int:
    r, w = os.pipe()
    os.close(w)
    return r


def socket_end() -> int:
    return socket.socket(socket.AF_UNIX).detach()


def regular_file() -> int:
    fd = os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.posix_fallocate(fd, 0, SIZE)
    return fd


def shm_file() -> int:
    shm = posix_ipc.SharedMemory(f"/flipcall-test-{os.getpid()}", posix_ipc.O_CREX, size=SIZE)
    shm.unlink()
    return int(shm.fd)


def huge_memfd() -> int:
    try:
        fd = os.memfd_create("huge", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
        os.ftruncate(fd, 1 << 30)
    except OSError as exc:
        pytest.skip(f"no hugetlbfs here: {exc}")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


NOT_MEMFDS: dict[str, Callable[[], int]] = {
    "pipe": pipe_end,
    "socket": socket_end,
    "regular": regular_file,
    "directory": lambda: os.open("/tmp", os.O_RDONLY),
    "device": lambda: os.open("/dev/zero", os.O_RDWR),
    "pidfd": lambda: os.pidfd_open(os.getpid()),
    "read_only": lambda: reopened(os.O_RDONLY),
    "write_only": lambda: reopened(os.O_WRONLY),
    "o_path": lambda: reopened(os.O_PATH),
    "shm_open": shm_file,
    "hugetlb": huge_memfd,
    "write_sealed": lambda: memfd(seals=SEALS | fcntl.F_SEAL_WRITE),
    "future_write_sealed": lambda: memfd(seals=SEALS | FUTURE_WRITE),
}


def refused(error: type[FlipcallError], fd: int, length: int = SIZE, offset: int = 0) -> str:
    """Assert that attaching raises exactly `error` and has closed `fd`; its message."""
    with pytest.raises(error) as caught:
        PacketWindow.attach(fd, length, offset)
    assert type(caught.value) is error
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    return str(caught.value)


@pytest.mark.parametrize("kind", NOT_MEMFDS)
def test_attach_refuses_what_is_no_writable_memfd(kind: str) -> None:
    """Anything but a memfd both sides can write is foreign, and the descriptor is closed."""
    refused(WindowForeignError, NOT_MEMFDS[kind]())


@pytest.mark.parametrize("missing", ["SHRINK", "GROW", "SEAL"])
def test_attach_refuses_missing_seal(missing: str) -> None:
    """Each of the three seals is asked for, and named when it is missing."""
    message = refused(WindowUnsealedError, memfd(seals=SEALS & ~getattr(fcntl, f"F_SEAL_{missing}")))
    assert message.endswith(missing)


def test_attach_refuses_unsealed() -> None:
    """A memfd without any seal names all it lacks."""
    assert "SHRINK, GROW, SEAL" in refused(WindowUnsealedError, memfd(seals=0))


def test_attach_refuses_memfd_that_forbids_sealing() -> None:
    """Without MFD_ALLOW_SEALING a memfd carries F_SEAL_SEAL alone, which protects nothing."""
    fd = os.memfd_create("peer", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    refused(WindowUnsealedError, fd)


def test_attach_refuses_gvisors_growing_file() -> None:
    """gVisor's allocator seals SHRINK|SEAL and lets the file grow: proto/window.md says why it is refused."""
    refused(WindowUnsealedError, memfd(seals=fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL))


@pytest.mark.parametrize("length", [-1, 0, 1, lib.FC_WINDOW_MIN - 1])
def test_attach_refuses_too_small(length: int) -> None:
    """Lengths below the protocol's minimum, negative ones too."""
    refused(WindowTooSmallError, memfd(), length)


@pytest.mark.parametrize("length", [lib.FC_WINDOW_MAX + 1, 1 << 32, 1 << 63, 1 << 64])
def test_attach_refuses_too_large(length: int) -> None:
    """Lengths above the protocol's maximum, and those that would wrap in C."""
    refused(WindowTooLargeError, memfd(), length)


@pytest.mark.parametrize("offset", [-PAGE, -1, 1, 16, PAGE - 1, PAGE + 1])
def test_attach_refuses_misplaced(offset: int) -> None:
    """A window begins at a page."""
    refused(WindowForeignError, memfd(), PAGE, offset)


@pytest.mark.parametrize(
    ("length", "offset"),
    [(SIZE + 1, 0), (SIZE, PAGE), (PAGE, SIZE), (PAGE, 1 << 62), (PAGE, (1 << 63) - PAGE), (PAGE, 1 << 64)],
)
def test_attach_refuses_truncated(length: int, offset: int) -> None:
    """The file must hold all of the window; sums beyond 64 bits do not wrap."""
    refused(WindowTruncatedError, memfd(), length, offset)


def test_attach_refuses_empty_file() -> None:
    """A sealed memfd of no bytes holds no window."""
    refused(WindowTruncatedError, memfd(0), PAGE)


def test_attach_refuses_sparse() -> None:
    """A file whose pages were never reserved would make us pay for them, or fail at a bad moment."""
    assert "reserved" in refused(WindowTruncatedError, memfd(reserve=False))


def test_attach_refuses_partly_sparse() -> None:
    """One missing page is enough, wherever it is."""
    fd = memfd(seals=0, reserve=False)
    os.posix_fallocate(fd, 0, SIZE - PAGE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    refused(WindowTruncatedError, fd)


def test_attach_huge_sparse_costs_nothing() -> None:
    """A gigabyte that exists on paper only is refused without a page being allocated."""
    fd = memfd(lib.FC_WINDOW_MAX, reserve=False)
    watch = os.dup(fd)
    refused(WindowTruncatedError, fd, lib.FC_WINDOW_MAX)
    assert os.fstat(watch).st_blocks == 0
    os.close(watch)


@pytest.mark.parametrize("fd", [-1, 1 << 20, 1 << 40, "3", None])
def test_attach_refuses_no_descriptor(fd: int) -> None:
    """What is not an open descriptor is the caller's mistake."""
    with pytest.raises(MisuseError):
        PacketWindow.attach(fd, SIZE)


@pytest.mark.parametrize(("length", "offset"), [("4096", 0), (4096.0, 0), (SIZE, None)])
def test_attach_refuses_no_number(length: int, offset: int) -> None:
    """A length that is no integer is the caller's mistake; the descriptor is closed all the same."""
    refused(MisuseError, memfd(), length, offset)


@given(
    pages=st.integers(0, 6),
    length=st.one_of(st.integers(-10, 8 * PAGE), st.integers(-(2**70), 2**70)),
    offset=st.one_of(st.integers(-2, 8).map(lambda n: n * PAGE), st.integers(-(2**70), 2**70)),
)
def test_attach_accepts_exactly_what_lies_inside(pages: int, length: int, offset: int) -> None:
    """A window inside the file is mapped, any other is a WindowError, and nothing leaks."""
    fd = memfd(pages * PAGE)
    good = (
        lib.FC_WINDOW_MIN <= length <= lib.FC_WINDOW_MAX
        and offset >= 0
        and offset % PAGE == 0
        and offset + length <= pages * PAGE
    )
    try:
        window = PacketWindow.attach(fd, length, offset)
    except WindowError:
        assert not good
    else:
        assert good
        assert (len(window.buffer), window.length, window.offset) == (length, length, offset)
        window.buffer[length - 1] = 1
        window.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@given(length=st.integers(lib.FC_WINDOW_MIN, 1 << 20))
def test_attach_accepts_what_the_allocator_makes(length: int) -> None:
    """The allocator rounds up to pages and the other side takes exactly that, seeing the same bytes."""
    with MemfdAllocator().allocate(length) as made:
        assert made.length % PAGE == 0
        assert 0 <= made.length - length < PAGE
        with PacketWindow.attach(os.dup(made.fd), made.length, made.offset) as taken:
            assert taken.buffer[:] == bytes(made.length)
            made.buffer[made.length - 1] = 42
            assert taken.buffer[made.length - 1] == 42


def test_attach_makes_the_descriptor_close_on_exec() -> None:
    """The descriptor is owned now, so no program started later may inherit it."""
    fd = memfd()
    os.set_inheritable(fd, True)
    with PacketWindow.attach(fd, SIZE) as window:
        assert not os.get_inheritable(window.fd)


def test_seals_hold_against_the_peer() -> None:
    """After attaching, the peer can neither shrink nor grow the file, nor lift the seals."""
    with MemfdAllocator().allocate(SIZE) as made:
        peer = os.dup(made.fd)
        try:
            for size in (0, PAGE, SIZE + PAGE):
                with pytest.raises(PermissionError):
                    os.ftruncate(peer, size)
            with pytest.raises(PermissionError):
                fcntl.fcntl(peer, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        finally:
            os.close(peer)


def test_punched_hole_reads_as_zeros() -> None:
    """What the seals do not stop (proto/window.md): pages taken back come again, empty."""
    libc = ctypes.CDLL(None, use_errno=True)
    keep_size_punch_hole = 0x01 | 0x02  # fallocate(2)
    with MemfdAllocator().allocate(SIZE) as made:
        made.buffer[:] = b"\xff" * SIZE
        off_t = ctypes.c_int64
        if libc.fallocate(made.fd, keep_size_punch_hole, off_t(0), off_t(SIZE)):
            assert ctypes.get_errno() == errno.EPERM
            pytest.skip("this kernel does not punch holes into sealed memfds")
        assert made.buffer[:] == bytes(SIZE)


def test_regular_file_in_tmp_is_reported_by_kind(tmp_path: Path) -> None:
    """The message says what the descriptor was."""
    fd = os.open(tmp_path, os.O_RDONLY)
    assert "a directory" in refused(WindowForeignError, fd)
