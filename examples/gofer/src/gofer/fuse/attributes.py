"""The gofer's Stat as FUSE's attributes, and back."""

from __future__ import annotations

import pyfuse3

from gofer.protocol import Stat


def entry_of(info: Stat, number: int, seconds: float) -> pyfuse3.EntryAttributes:
    """What the kernel is told of an object; it keeps that, and the name it was found under, for `seconds`."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(number)
    entry.st_mode = pyfuse3.ModeT(info.mode)
    entry.st_nlink = info.nlink
    entry.st_uid = info.uid
    entry.st_gid = info.gid
    entry.st_rdev = info.rdev
    entry.st_size = info.size
    entry.st_blksize = info.blksize
    entry.st_blocks = info.blocks
    entry.st_atime_ns = info.atime_ns
    entry.st_mtime_ns = info.mtime_ns
    entry.st_ctime_ns = info.ctime_ns
    entry.attr_timeout = seconds
    entry.entry_timeout = seconds
    return entry


def missing(seconds: float) -> pyfuse3.EntryAttributes:
    """What the kernel is told of a name that is not there."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.entry_timeout = seconds
    return entry
