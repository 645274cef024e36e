"""The one door for system calls that Python's `os` does not offer: numbers, constants and the calls.

Nothing here decides anything. Each function makes one call and returns its result or raises OSError with the
kernel's errno; on a machine whose numbers are not written below, every one raises ENOSYS, as a kernel without
the call would. The hot path does not pass through here: a flip is C (flipcall/core).

The numbers are kernel ABI and never change: arch/x86/entry/syscalls/syscall_64.tbl for x86_64,
include/uapi/asm-generic/unistd.h for aarch64. Calls added since Linux 5.1 have one number everywhere.

Run as a program (`python -I -S .../syscalls.py`) this file is the throw-away process in which
`flipcall.kernel` tries a seccomp listener; it therefore imports nothing of flipcall.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# By machine, 64-bit processes only: a 32-bit process on a 64-bit kernel has other numbers.
_OWN: dict[str, dict[str, int]] = {
    "x86_64": {"futex": 202, "seccomp": 317},
    "aarch64": {"futex": 98, "seccomp": 277},
}
_COMMON = {"openat2": 437, "landlock_create_ruleset": 444, "futex_waitv": 449}

# linux/futex.h
FUTEX_WAIT_BITSET = 9
FUTEX_SWAP = 14  # in the kernels proto/kernel is about; flipcall.kernel.futex_swap_number() says which here
FUTEX_LOCK_PI2 = 13  # since Linux 5.14; never asked for
FUTEX_PRIVATE_FLAG = 128
FUTEX_BITSET_MATCH_ANY = 0xFFFFFFFF
# linux/seccomp.h
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP = 1 << 0
SECCOMP_IOCTL_NOTIF_SET_FLAGS = 0x40082104  # _IOW('!', 4, __u64)
# linux/landlock.h, linux/openat2.h, linux/prctl.h, asm-generic/socket.h
LANDLOCK_CREATE_RULESET_VERSION = 1 << 0
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
PR_SET_NO_NEW_PRIVS = 38
SO_PEERPIDFD = 77

AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_munmap = _libc.munmap
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Timespec(ctypes.Structure):
    """struct __kernel_timespec: seconds and nanoseconds, 64 bits each on every 64-bit machine."""

    _fields_ = (("tv_sec", ctypes.c_int64), ("tv_nsec", ctypes.c_int64))


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _SockFilter(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_uint16), ("filter", ctypes.POINTER(_SockFilter)))


def _number(name: str) -> int:
    """The number of the system call `name` here. Raises OSError(ENOSYS) when it is not known."""
    own = _OWN.get(platform.machine())
    if own is None or sys.maxsize < 2**32:
        raise OSError(errno.ENOSYS, f"system call numbers of {platform.machine()} are not known to flipcall")
    return own.get(name) or _COMMON[name]


def _call(name: str, *args: int | ctypes.Structure | ctypes.Array[ctypes.c_char] | None) -> int:
    """One system call; integers go as longs, None as NULL, structures and arrays by address."""
    values = [
        ctypes.byref(arg) if isinstance(arg, (ctypes.Structure, ctypes.Array)) else ctypes.c_void_p(arg)
        for arg in args
    ]
    number = ctypes.c_long(_number(name))
    ctypes.set_errno(0)
    result: int = _syscall(number, *values)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


@contextmanager
def zero_words() -> Iterator[int]:
    """The address of a private page of zeroes that nobody, the kernel included, may write to."""
    page = mmap.PAGESIZE
    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = _mmap(None, page, mmap.PROT_READ, anonymous, -1, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap of one page")
    try:
        yield address
    finally:
        _munmap(address, page)


def futex(
    word: int, op: int, value: int, timeout: Timespec | None = None, word2: int | None = None, value3: int = 0
) -> int:
    """futex(2) on the u32 at address `word`. May block if `op` does: releases the GIL, not interruptible."""
    return _call("futex", word, op, value, timeout, word2, value3)


def futex_waitv_of_nothing() -> int:
    """futex_waitv(2) with an empty list: EINVAL from every kernel that has it (5.16), ENOSYS from others."""
    return _call("futex_waitv", None, 0, 0, None, 0)


def landlock_abi() -> int:
    """The version of Landlock's ABI. OSError: ENOSYS not built in, EOPNOTSUPP switched off at boot."""
    return _call("landlock_create_ruleset", None, 0, LANDLOCK_CREATE_RULESET_VERSION)


def openat2(dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2): a new descriptor, which the caller owns. `resolve` is a set of RESOLVE_*."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    return _call("openat2", dirfd, ctypes.create_string_buffer(os.fsencode(path)), how, ctypes.sizeof(how))


def seccomp_action_available(action: int) -> None:
    """Return if the kernel knows the filter result `action` (SECCOMP_RET_*); OSError(EOPNOTSUPP) if not."""
    word = ctypes.create_string_buffer(action.to_bytes(4, sys.byteorder), 4)
    _call("seccomp", SECCOMP_GET_ACTION_AVAIL, 0, word)


def seccomp_listener() -> int:
    """Install, in this thread and for good, a filter that allows everything, and return its listener.

    Also sets no_new_privs, for good. Only for a process that exists for it.
    """
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    bpf_return_constant = 0x06
    program = (_SockFilter * 1)(_SockFilter(bpf_return_constant, 0, 0, SECCOMP_RET_ALLOW))
    return _call("seccomp", SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, _SockFprog(1, program))


def seccomp_set_sync_wake(listener: int) -> None:
    """Make replies on `listener` wake the notified thread on this CPU (Linux 6.6, before it EINVAL)."""
    fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)


if __name__ == "__main__":
    try:
        seccomp_set_sync_wake(seccomp_listener())
    except OSError as error:
        sys.exit(f"{errno.errorcode.get(error.errno or 0, 'error')} {error.strerror}")
