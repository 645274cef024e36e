"""FUSE passthrough, where the kernel reads an open file's backing file itself: what there is of it here.

It takes three: the kernel (Linux 6.9, CONFIG_FUSE_PASSTHROUGH), libfuse (3.17) and its binding to Python, which
must have a place for `backing_id` in the answer to an open. Each is asked, so that whoever mounts learns which one
is missing; until a pyfuse3 has it, files of a gofer that donates are read with the host's descriptor from here
(transfers.py).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from importlib.metadata import version

import pyfuse3

_BACKING_OPEN = 0x4010E501  # FUSE_DEV_IOC_BACKING_OPEN of linux/fuse.h
_BACKING_MAP = struct.Struct("=iIQ")  # struct fuse_backing_map: fd, flags, padding


def report() -> str:
    """One line for who mounts: whether it is used, and if not, why."""
    has = {
        f"Linux {os.uname().release}": kernel_has_it(),
        f"libfuse {pyfuse3_libfuse()}": library_has_it(),
        f"pyfuse3 {version('pyfuse3')}": binding_has_it(),
    }
    parts = (f"{part} {'has it' if there else 'has not'}" for part, there in has.items())
    return f"not used: {', '.join(parts)}"


def kernel_has_it() -> bool:
    """Whether its ioctl is there: refused on a device that is not mounted, rather than unknown or not built in."""
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(device, _BACKING_OPEN, _BACKING_MAP.pack(-1, 0, 0))
    except OSError as error:
        return error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS)
    finally:
        os.close(device)
    return True


def library_has_it() -> bool:
    """Whether the libfuse in this process, which is pyfuse3's, has the function."""
    return hasattr(_libfuse(), "fuse_passthrough_open")


def binding_has_it() -> bool:
    """Whether pyfuse3's answer to an open has a place for it."""
    return hasattr(pyfuse3.FileInfo, "backing_id")


def pyfuse3_libfuse() -> str:
    """The version of the libfuse in this process."""
    function = _libfuse().fuse_pkgversion
    function.restype = ctypes.c_char_p
    said: bytes = function()
    return said.decode()


def _libfuse() -> ctypes.CDLL:
    return ctypes.CDLL(pyfuse3.__file__)  # and what that is linked with: it is libfuse3.so.4 since 3.17
