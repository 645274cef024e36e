"""Landlock: which files the process may touch from now on, whatever it is made to do (landlock(7)).

A ruleset names every right the kernel knows and forbids it; rules give some back beneath a directory, or on a
file. It holds for the calling thread and what it starts, and nothing takes it back.

Own code, since of the libraries on PyPI none is established: one has been a development release for years and
stops at the file rights of Linux 5.13, the others are months old. This is three system calls.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
from typing import NamedTuple

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System call numbers: the same on every architecture."""
_GET_ABI = 1
_RULE_PATH_BENEATH = 1


class Access(enum.IntFlag):
    """Rights on files, LANDLOCK_ACCESS_FS_* (linux/landlock.h)."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_OF_FILES = (
    Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
)  # the others are rights on a directory

_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many of the rights an ABI knows; later ones know no more of these."""

_TCP = 0b11  # LANDLOCK_ACCESS_NET_BIND_TCP, _CONNECT_TCP; since ABI 4
_SCOPES = 0b11  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, _SIGNAL; since ABI 6


class Rule(NamedTuple):
    """What is given back."""

    path: str
    access: Access
    user: str
    """Who needs it."""
    fd: int | None = None
    """Of `path`, when it is open already."""


class _Attributes(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("fd", ctypes.c_int32))


_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The version of Landlock this kernel speaks; 0 when it has none, or it is switched off."""
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_GET_ABI))
    except OSError as e:
        if e.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):  # EPERM: a container's seccomp profile
            return 0
        raise


def restrict(rules: list[Rule]) -> str:
    """Forbid the calling thread, and what it starts, everything but `rules`; in words, what that is.

    A rule for a path that does not exist gives nothing and is left out. The process must have no_new_privs.
    Raises OSError: ENOSYS where there is no Landlock.
    """
    version = abi()
    if not version:
        raise OSError(errno.ENOSYS, "this kernel has no Landlock, or it is switched off")
    known = Access((1 << _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]) - 1)
    attributes = _Attributes(known, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for rule in rules:
            _add(ruleset, rule, known)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    more = ["no TCP"] * (version >= 4) + ["no signals and abstract sockets outside"] * (version >= 6)
    return f"ABI {version}: " + ", ".join([f"{len(rules)} rules for files", *more])


def _add(ruleset: int, rule: Rule, known: Access) -> None:
    fd = rule.fd
    if fd is None:
        try:
            fd = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            return
    try:
        access = rule.access & known
        if not os.path.isdir(f"/proc/self/fd/{fd}"):
            access &= _OF_FILES
        beneath = _PathBeneath(access, fd)
        _call(
            _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), ctypes.byref(beneath),
            ctypes.c_uint32(0),
        )  # fmt: skip
    finally:
        if rule.fd is None:
            os.close(fd)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
