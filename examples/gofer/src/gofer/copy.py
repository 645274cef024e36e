"""Copying files and trees out of the gofer's tree or into it.

A copy has two *sides* (sides.py), and does not know which is which.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from gofer.client import GoferClient
from gofer.sides import PIECE, Info, Local, Reading, Remote, Side, Writing

REMOTE = "remote:"
"""What a path in the gofer's tree begins with where both kinds may stand."""

Progress = Callable[[int], None]
"""Told how many bytes more have been copied."""


def copy_file(
    source: Side,
    path: bytes,
    target: Side,
    to: bytes,
    progress: Progress,
    *,
    preserve: bool = False,
    follow: bool = True,
) -> None:
    """Copy a file's content, permission bits, and with `preserve` its times; `to` is made or replaced.

    Without `follow`, OSError ELOOP where `to` is a symbolic link.
    """
    with source.reading(path) as reading:
        info = reading.info
        with target.writing(to, stat.S_IMODE(info.mode) & 0o777, follow) as writing:
            writing.finish(_copy_data(reading, writing, progress))
    if preserve:
        target.attributes(to, info.mode & 0o777, (info.atime_ns, info.mtime_ns))


def _copy_data(reading: Reading, writing: Writing, progress: Progress) -> int:
    """All data there is; the size the target is to have."""
    at = 0
    for start, end in _extents(reading):
        if start > at:
            progress(start - at)  # a hole
        at = start
        while at < end and (data := reading.read(at, min(PIECE, end - at))):
            writing.write(at, data)
            at += len(data)
            progress(len(data))
    return max(at, reading.info.size) if reading.info.sparse else at


def _extents(reading: Reading) -> Iterator[tuple[int, int]]:
    """Where there is data. A file without holes is read until nothing comes: it may have grown meanwhile."""
    if not reading.info.sparse:
        yield 0, 1 << 62
        return
    at = 0
    while True:
        try:
            start, at = reading.extent(at)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if at == 0 and error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # the file system cannot tell
                yield 0, 1 << 62
                return
            raise
        yield start, at


class Copied(NamedTuple):
    """What became of one object of a tree."""

    path: bytes
    to: bytes
    kind: int
    """S_IFMT of its mode; 0 when nothing is known of it."""
    error: OSError | None


def copy_tree(
    source: Side, top: bytes, target: Side, to: bytes, progress: Progress, *, preserve: bool = False
) -> Iterator[Copied]:
    """Copy whatever is at `top`, links as links; each object as it is done, or what was wrong with it.

    What is no directory is made anew where a link, a FIFO or a socket is in its place, and a directory is not
    looked for behind a link but at `to` itself: a link that an earlier copy brought along leads nothing astray.
    """
    # Directories are done again at the end, deepest first: until then they can be written into, and keep no time.
    again: list[tuple[bytes, bytes, Info]] = []
    todo = [(top, to)]
    while todo:
        path, new = todo.pop()
        kind = 0
        try:
            info = source.info(path, False)
            kind = stat.S_IFMT(info.mode)
            if stat.S_ISDIR(info.mode):
                _make_directory(target, new, info.mode, follow=path == top)
                again.append((path, new, info))
                names = sorted(source.names(path), reverse=True)
                todo.extend((os.path.join(path, name), os.path.join(new, name)) for name in names)
            else:
                _copy_one(source, path, target, new, info, progress, preserve)
            yield Copied(path, new, kind, None)
        except OSError as error:
            yield Copied(path, new, kind, error)
    for old, new, info in reversed(again):
        times = (info.atime_ns, info.mtime_ns) if preserve else None
        try:
            target.attributes(new, info.mode & 0o777, times)
        except OSError as error:
            yield Copied(old, new, stat.S_IFDIR, error)


def _make_directory(target: Side, path: bytes, mode: int, follow: bool) -> None:
    try:
        there = target.info(path, follow)
    except FileNotFoundError:
        target.mkdir(path, (mode & 0o777) | 0o700)
    else:
        if not stat.S_ISDIR(there.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fsdecode(path))


def _copy_one(
    source: Side, path: bytes, target: Side, new: bytes, info: Info, progress: Progress, preserve: bool
) -> None:
    kind = stat.S_IFMT(info.mode)
    if kind not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO):
        raise OSError(errno.EOPNOTSUPP, "neither a file, a directory, a link nor a FIFO")
    with suppress(FileNotFoundError):
        there = stat.S_IFMT(target.info(new, False).mode)
        if there == stat.S_IFDIR:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fsdecode(new))
        if there != stat.S_IFREG or kind != stat.S_IFREG:
            target.unlink(new)
    if kind == stat.S_IFREG:
        copy_file(source, path, target, new, progress, preserve=preserve, follow=False)
    elif kind == stat.S_IFLNK:
        target.symlink(source.readlink(path), new)
    else:
        target.mkfifo(new, info.mode & 0o777)


# ---- one file, by path -------------------------------------------------------------------------------


def download(client: GoferClient, source: str, target: str, progress: Progress) -> None:
    """Copy a file of the tree to a local one, which is made or replaced."""
    copy_file(Remote(client), os.fsencode(source), Local(), os.fsencode(target), progress)


def upload(client: GoferClient, source: str, target: str, progress: Progress) -> None:
    """Copy a local file to one of the tree, which is made or replaced."""
    copy_file(Local(), os.fsencode(source), Remote(client), os.fsencode(target), progress)
