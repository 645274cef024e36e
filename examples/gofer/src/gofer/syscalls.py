"""The one door to the system calls that Python's `os` lacks, or lacks the flags of.

`openat2` is what the gofer's confinement stands on, so this module fails closed: `require_openat2` proves,
before anything is served, that the call exists *and* that it refuses to climb. There is no fallback to
`openat`, which would follow a symbolic link somebody swapped in a microsecond ago.

Called through ctypes, which releases the GIL for the duration: a slow file system holds up its own caller
only.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
from collections.abc import Callable
from typing import NamedTuple

_OPENAT2 = 437
"""The same number on every architecture Python runs on (alpha, which counts by itself, is not one)."""

# include/uapi/linux/openat2.h
_RESOLVE_NO_MAGICLINKS = 0x02  # /proc/PID/fd/N and its kind, which lead anywhere
_RESOLVE_NO_SYMLINKS = 0x04  # no link is followed, in any component
_RESOLVE_BENEATH = 0x08  # the result lies below the directory descriptor, whatever is renamed meanwhile
_RESOLVE = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS

_TRIES = 64
"""How often a walk that lost a race with a rename is tried again: often, and not for ever."""

# EAGAIN: a rename somewhere on the machine raced a `..`. EXDEV: what was found had been moved elsewhere by
# the time the kernel looked whether it still was beneath; asked again, it is found or it is not. For a single
# plain name there is no other way to get either. EINTR: a signal during a slow file system's open.
_RACED = (errno.EAGAIN, errno.EXDEV, errno.EINTR)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
# glibc (2.30 and newer) exports it under its own name; musl calls the same thing getdents.
_getdents64 = _libc.getdents64 if hasattr(_libc, "getdents64") else _libc.getdents
_getdents64.restype = ctypes.c_ssize_t
_getdents64.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)


_HOW_SIZE = ctypes.sizeof(_OpenHow)


@functools.lru_cache(maxsize=256)
def _how(flags: int, mode: int) -> tuple[int, _OpenHow]:
    """The request block for these flags, and its address. The kernel only reads it, so threads may share one."""
    block = _OpenHow(flags | os.O_CLOEXEC, mode, _RESOLVE)
    return ctypes.addressof(block), block


def open_beneath(directory: int, name: bytes, flags: int, mode: int = 0) -> int:
    """Open `name` in the directory that descriptor `directory` stands for, and nowhere else.

    `name` is one name, or several joined by `/`. With O_PATH and O_NOFOLLOW a symbolic link in the
    last place yields a descriptor of the link itself; otherwise, ELOOP.
    The new descriptor is close-on-exec. Each name must have been through `names.check`.

    Raises OSError with the kernel's errno; EXDEV when the name would have led outside.
    """
    how, _block = _how(flags, mode)
    code = errno.EAGAIN
    for _ in range(_TRIES):
        fd: int = _syscall(_OPENAT2, directory, name, how, _HOW_SIZE)
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in _RACED:
            break
    raise OSError(code, os.strerror(code))


def require_openat2(directory: int) -> None:
    """Prove that openat2 is there and confines; raise OSError saying what is missing otherwise."""
    try:
        os.close(open_beneath(directory, b".", os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        raise OSError(
            error.errno,
            f"openat2 does not work here ({error.strerror}): Linux 5.6 or newer is needed, and a container's"
            " seccomp profile must allow it; the gofer serves nothing without it",
        ) from None
    try:
        os.close(open_beneath(directory, b"..", os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        if error.errno == errno.EXDEV:
            return
        raise
    raise OSError(errno.ENOTSUP, "openat2 ignores RESOLVE_BENEATH here: the gofer serves nothing")


# ---- by descriptor: what `os` does for paths only, or without these flags ---------------------------------

_AT_EMPTY_PATH = 0x1000  # linux/fcntl.h: the descriptor itself, be it O_PATH or of a symbolic link
_UTIME_NOW, _UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2  # linux/stat.h


class _Timespec(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_int64), ("nsec", ctypes.c_long))


def _function(name: str, *arguments: type) -> Callable[..., int]:
    """A function of libc that gives -1 and sets errno; the result raises OSError instead."""
    function = getattr(_libc, name)
    function.restype = ctypes.c_int
    function.argtypes = arguments

    def checked(*given: object) -> int:
        result: int = function(*given)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    return checked


_fchownat = _function(
    "fchownat", ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_int
)
_utimensat = _function(
    "utimensat", ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_Timespec * 2), ctypes.c_int
)
_renameat2 = _function(
    "renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)
_fallocate = _function("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def chown(fd: int, uid: int, gid: int) -> None:
    """Of what `fd` stands for, a symbolic link too; -1 leaves one as it is."""
    _fchownat(fd, b"", uid & 0xFFFFFFFF, gid & 0xFFFFFFFF, _AT_EMPTY_PATH)


def utime(fd: int, atime_ns: int | None, mtime_ns: int | None, now: int) -> None:
    """Of what `fd` stands for, a symbolic link too. None leaves a time as it is, `now` stands for the clock's."""
    _utimensat(fd, b"", (_Timespec * 2)(_timespec(atime_ns, now), _timespec(mtime_ns, now)), _AT_EMPTY_PATH)


def _timespec(moment: int | None, now: int) -> _Timespec:
    if moment is None:
        return _Timespec(0, _UTIME_OMIT)
    if moment == now:
        return _Timespec(0, _UTIME_NOW)
    return _Timespec(*divmod(moment, 10**9))


def rename(source: int, name: bytes, target: int, new_name: bytes, flags: int) -> None:
    """renameat2(2)."""
    _renameat2(source, name, target, new_name, flags)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2)."""
    _fallocate(fd, mode, offset, length)


# ---- listing --------------------------------------------------------------------------------------------


class RawDent(NamedTuple):
    """One directory entry as the kernel gives it."""

    ino: int
    next: int
    """Where the listing goes on after this entry: an opaque cookie for lseek."""
    kind: int
    """DT_* of dirent.h: the file type bits of st_mode, shifted right by 12; 0 where the file system does not
    say.
    """
    name: bytes


_DIRENT = struct.Struct("=QqHB")  # linux_dirent64: d_ino, d_off, d_reclen, d_type; then the name and a NUL


def record_size(name: bytes) -> int:
    """Bytes the kernel's record of this name takes in the buffer."""
    return (_DIRENT.size + len(name) + 1 + 7) & ~7


DIRENT_MAX = record_size(b"x" * 255)
"""A buffer of this many bytes takes any one entry."""


def getdents(fd: int, size: int) -> tuple[list[RawDent], int]:
    """The next entries of an open directory, as many as fit `size` bytes of the kernel's records, and the bytes
    they take; none at the end.

    Moves the descriptor's position: callers of one descriptor take turns. `.` and `..` are among the entries.
    """
    buffer = ctypes.create_string_buffer(size)
    filled = _getdents64(fd, buffer, size)
    if filled < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return _parse(ctypes.string_at(buffer, filled)), filled


def _parse(records: bytes) -> list[RawDent]:
    found = []
    at = 0
    while at < len(records):
        ino, following, length, kind = _DIRENT.unpack_from(records, at)
        start = at + _DIRENT.size
        found.append(RawDent(ino, following, kind, records[start : records.index(b"\0", start)]))
        at += length
    return found
