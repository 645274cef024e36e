"""What this kernel can do, found out by asking it: each probe returns a value and the reason for it.

A probe tries the feature itself, not the kernel's version: distributions backport, containers forbid. A probe
leaves nothing behind: no descriptor, no mapping, no lock, no filter; the one that cannot be undone (a seccomp
listener) happens in a process of its own. Results are kept for the life of the process, for a kernel does not
change under it; CPUs and quotas do change, and live in flipcall.cpus.

How FUTEX_SWAP is probed, and why so carefully. The operation never got a number of its own: the patch of 2020
used 13, which Linux 5.14 gave to FUTEX_LOCK_PI2, so asking a current kernel for "operation 13" *takes a lock*
(or sleeps until someone gives one up). Kernels carrying the patch today use 14 (proto/kernel), and 14 may be
given away tomorrow too. So the number is a setting, FLIPCALL_FUTEX_SWAP in the environment, 14 without it; and
futex_swap_number() says no to the numbers that cannot be it, before the kernel is asked anything:

- 0 to 12, which every Linux gives to other operations, and all above 127, where the flags begin.
- 13, unless the kernel calls itself older than 5.14 and newer than 3.0 (what says 2.6 may be a new one in
  disguise, personality UNAME26). The version is a poor witness, and the only one: the question itself is what
  must not be asked.

The probe then asks for that number alone, in a way in which no operation, known or to come, can block or take a
lock (so it would be harmless even where a distribution has brought FUTEX_LOCK_PI2 to an older kernel), and
believes only the answers the patch is documented to give:

1. With a timeout of two thousand million nanoseconds, which no timespec may have. A kernel checks the timeout
   before it looks at any futex: ENOSYS says the operation does not exist, EINVAL that it exists and takes a
   timeout. Anything else is not FUTEX_SWAP.
2. With both words in a private read-only page of zeroes, the expected value 7, and a timeout of zero. A swap
   finds 0 where 7 was expected and returns EAGAIN, having woken nobody, for nobody waits on that page. A lock
   operation cannot write its owner into a read-only page (EFAULT); anything that would wait has no time to.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from . import syscalls
from .cpus import spinning_allowed as spinning_allowed

_PROBE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing probed: whether it can be used here, its value if it has one (a version), and why."""

    name: str
    available: bool
    reason: str
    value: int | str | None = None


def _errno_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "error")


def _refused(name: str, error: OSError, missing: str) -> Feature:
    """The feature for a probe that failed; ENOSYS and the like are `missing`, the rest is told as it is."""
    absent = error.errno in (errno.ENOSYS, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP)
    why = missing if absent else (error.strerror or "refused")
    return Feature(name, False, f"{_errno_name(error)}: {why}")


@functools.cache
def memfd_sealing() -> Feature:
    """Anonymous shared memory whose size can be fixed for good: what windows are made of by default."""
    name = "memfd_sealing"
    fd = -1
    try:
        fd = os.memfd_create("flipcall-probe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.posix_fallocate(fd, 0, 4096)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        try:
            os.ftruncate(fd, 0)
        except PermissionError:
            return Feature(name, True, "a sealed memfd refuses to shrink")
        return Feature(name, False, "a sealed memfd could be shrunk all the same")
    except OSError as error:
        return _refused(name, error, "no memfd_create with sealing (Linux 3.17)")
    finally:
        if fd >= 0:
            os.close(fd)


@functools.cache
def futex_wait_bitset() -> Feature:
    """FUTEX_WAIT_BITSET: sleeping until an absolute time, so that a deadline survives interruptions."""
    name = "futex_wait_bitset"
    op = syscalls.FUTEX_WAIT_BITSET | syscalls.FUTEX_PRIVATE_FLAG
    try:
        with syscalls.zero_words() as word:
            syscalls.futex(word, op, 7, syscalls.Timespec(0, 0), None, syscalls.FUTEX_BITSET_MATCH_ANY)
    except BlockingIOError:
        return Feature(name, True, "EAGAIN: compares, as it should")
    except OSError as error:
        return _refused(name, error, "no FUTEX_WAIT_BITSET (Linux 2.6.25)")
    return Feature(name, False, "returned where it should have said EAGAIN")


@functools.cache
def futex_waitv() -> Feature:
    """futex_waitv: sleeping on several words at once."""
    name = "futex_waitv"
    try:
        syscalls.futex_waitv_of_nothing()
    except OSError as error:
        if error.errno == errno.EINVAL:
            return Feature(name, True, "EINVAL: refuses an empty list, as it should")
        return _refused(name, error, "no futex_waitv (Linux 5.16)")
    return Feature(name, False, "accepted an empty list")


FUTEX_SWAP_VARIABLE = "FLIPCALL_FUTEX_SWAP"


def futex_swap_number() -> int:
    """FUTEX_SWAP's number as configured: $FLIPCALL_FUTEX_SWAP, or 14. Raises ValueError for what it cannot be."""
    text = os.environ.get(FUTEX_SWAP_VARIABLE, "").strip()
    if not text:
        return syscalls.FUTEX_SWAP
    said = f"{FUTEX_SWAP_VARIABLE}={text[:20]}"
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"{said}: not a number")
    number = int(text)
    if not syscalls.FUTEX_LOCK_PI2 <= number < syscalls.FUTEX_PRIVATE_FLAG:
        raise ValueError(f"{said}: FUTEX_SWAP can only be 13 to 127, other numbers have other meanings")
    if number == syscalls.FUTEX_LOCK_PI2 and not _before_lock_pi2(platform.release()):
        raise ValueError(f"{said}: 13 is FUTEX_LOCK_PI2 since Linux 5.14, and this is {platform.release()}")
    return number


def _before_lock_pi2(release: str) -> bool:
    """Whether a kernel that calls itself `release` is from before FUTEX_LOCK_PI2, with no doubt about it."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return match is not None and (3, 0) <= (int(match[1]), int(match[2])) < (5, 14)


@functools.cache
def futex_swap() -> Feature:
    """FUTEX_SWAP, the hand-over that never reached mainline; its number is the value. See the module docstring."""
    name = "futex_swap"
    try:
        number = futex_swap_number()
    except ValueError as error:
        return Feature(name, False, str(error))
    op = number | syscalls.FUTEX_PRIVATE_FLAG
    try:
        with syscalls.zero_words() as word:
            try:
                syscalls.futex(word, op, 7, syscalls.Timespec(0, 2_000_000_000), word + 64)
                return Feature(name, False, f"operation {number} is something else here: it takes no timeout")
            except OSError as error:
                if error.errno != errno.EINVAL:
                    return _refused(name, error, "not in this kernel (a patch of 2020, never merged)")
            syscalls.futex(word, op, 7, syscalls.Timespec(0, 0), word + 64)
    except BlockingIOError:
        said = f"operation {number} compares and returns EAGAIN: this kernel carries the patch"
        return Feature(name, True, said, number)
    except OSError as error:
        return Feature(name, False, f"operation {number} is something else here: {_errno_name(error)}")
    return Feature(name, False, f"operation {number} is something else here: it does not compare")


@functools.cache
def pidfd_open() -> Feature:
    """pidfd_open: a descriptor that becomes readable when a process dies; how a peer's death is noticed."""
    name = "pidfd_open"
    if not hasattr(os, "pidfd_open"):
        return Feature(name, False, "this Python was built without it")
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return _refused(name, error, "no pidfd_open (Linux 5.3)")
    return Feature(name, True, "opened one for this process")


@functools.cache
def so_peerpidfd() -> Feature:
    """SO_PEERPIDFD: a pidfd of the process at the other end of a Unix socket, free of pid reuse."""
    name = "so_peerpidfd"
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        try:
            os.close(ours.getsockopt(socket.SOL_SOCKET, syscalls.SO_PEERPIDFD))
        except OSError as error:
            return _refused(name, error, "no SO_PEERPIDFD (Linux 6.5); SO_PEERCRED and pidfd_open instead")
    return Feature(name, True, "a socket pair gave one")


@functools.cache
def seccomp_notify() -> Feature:
    """seccomp user notification: a filter that hands a system call to another process."""
    name = "seccomp_notify"
    try:
        syscalls.seccomp_action_available(syscalls.SECCOMP_RET_USER_NOTIF)
    except OSError as error:
        return _refused(name, error, "no SECCOMP_RET_USER_NOTIF (Linux 5.0)")
    return Feature(name, True, "SECCOMP_RET_USER_NOTIF is an action of this kernel's filters")


@functools.cache
def seccomp_notify_sync_wake() -> Feature:
    """SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: the hand-over on one CPU that did reach mainline.

    It can only be asked of a listener, and a listener needs a filter and no_new_privs, neither of which can
    be undone: a short-lived process asks (some 30 ms). Should an outer filter kill the asker, it dies alone.
    """
    name = "seccomp_notify_sync_wake"
    command = [sys.executable, "-I", "-S", syscalls.__file__]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Feature(name, False, f"could not be probed: {error}")
    if done.returncode == 0:
        return Feature(name, True, "a listener in a process of its own accepted the flag")
    if done.returncode < 0:
        return Feature(name, False, f"the probing process was killed by signal {-done.returncode}")
    told = done.stderr.strip().splitlines()
    why = told[-1] if told else f"exit status {done.returncode}"
    return Feature(name, False, f"{why} (the flag is there since Linux 6.6)")


@functools.cache
def landlock() -> Feature:
    """Landlock: a process giving up the file system but for what it names; the value is the ABI version."""
    name = "landlock"
    try:
        version = syscalls.landlock_abi()
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return Feature(name, False, "EOPNOTSUPP: built in, but not switched on at boot (lsm=)")
        return _refused(name, error, "not in this kernel (Linux 5.13, CONFIG_SECURITY_LANDLOCK)")
    return Feature(name, True, f"ABI version {version}", version)


@functools.cache
def openat2() -> Feature:
    """openat2: opening below a directory, with no symlink followed."""
    name = "openat2"
    resolve = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
    directory = -1
    try:
        directory = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.close(syscalls.openat2(directory, ".", os.O_PATH, 0, resolve))
    except OSError as error:
        return _refused(name, error, "no openat2 (Linux 5.6)")
    finally:
        if directory >= 0:
            os.close(directory)
    return Feature(name, True, "RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS accepted")


@functools.cache
def fuse() -> Feature:
    """/dev/fuse: mounting a file system served by a process."""
    name, device = "fuse", "/dev/fuse"
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Feature(name, False, f"{device}: {_errno_name(error)} {error.strerror}")
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    if helper is None and os.geteuid() != 0:
        return Feature(name, False, f"{device} opens, but fusermount3 is missing and this is not root")
    return Feature(name, True, f"{device} opens; mounting {f'by {helper}' if helper else 'as root'}")


PROBES: tuple[Callable[[], Feature], ...] = (
    memfd_sealing,
    futex_wait_bitset,
    futex_waitv,
    futex_swap,
    pidfd_open,
    so_peerpidfd,
    seccomp_notify,
    seccomp_notify_sync_wake,
    landlock,
    openat2,
    fuse,
)


def features() -> list[Feature]:
    """Every probe's answer, in the order of PROBES."""
    return [probe() for probe in PROBES]
