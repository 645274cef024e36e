"""A mount of the tree for this process alone: without devices and set-uid programs, and read-only if it is to be.

`open_tree` makes a copy of the mounts below a directory that is in nobody's file system: it is reached by its
descriptor, and is gone with the last descriptor of it (open_tree(2), mount_setattr(2); Linux 5.12). What it
forbids the kernel forbids, whatever this program gets wrong; and where a device cannot be opened by mistake, a
file can be opened by name in one step rather than looked at first.

It takes CAP_SYS_ADMIN, which is dropped afterwards (confine.py).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

_OPEN_TREE, _MOUNT_SETATTR = 428, 442
"""System call numbers: the same on every architecture."""
_AT_FDCWD = -100
_AT_EMPTY_PATH, _AT_RECURSIVE = 0x1000, 0x8000
_OPEN_TREE_CLONE = 1
_RDONLY, _NOSUID, _NODEV = 1, 2, 4  # MOUNT_ATTR_*
_PRIVATE = 1 << 18  # MS_PRIVATE


class _Attributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns"))


_libc = ctypes.CDLL(None, use_errno=True)


def mount(path: str | bytes | os.PathLike[str], read_only: bool) -> int:
    """An O_PATH descriptor of a directory, on a mount of its own.

    Raises OSError: EPERM without CAP_SYS_ADMIN, ENOSYS on an old kernel, ENOTDIR, ENOENT, ...
    """
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    fd = _call(_OPEN_TREE, ctypes.c_int(_AT_FDCWD), ctypes.c_char_p(os.fsencode(path)), ctypes.c_uint(flags))
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fsdecode(path))
        wanted = _Attributes(_NOSUID | _NODEV | (_RDONLY if read_only else 0), 0, _PRIVATE, 0)
        _call(
            _MOUNT_SETATTR, ctypes.c_int(fd), ctypes.c_char_p(b""),
            ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE), ctypes.byref(wanted),
            ctypes.c_size_t(ctypes.sizeof(wanted)),
        )  # fmt: skip
    except BaseException:
        os.close(fd)
        raise
    return fd


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
