"""Copying files and trees out of the gofer's tree or into it.

A copy has two *sides*, here and the gofer, with the same few functions; the copying does not know which is which.
Holes stay holes: a source tells its data in extents, a target is written at offsets and given its size at the end.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import NamedTuple, Protocol

from gofer.client import GoferClient
from gofer.file import RemoteFile

REMOTE = "remote:"
"""What a path in the gofer's tree begins with where both kinds may stand."""

Progress = Callable[[int], None]
"""Told how many bytes more have been copied."""

_PIECE = 1 << 20


class Info(NamedTuple):
    """What a copy needs to know of an object."""

    mode: int
    size: int
    atime_ns: int
    mtime_ns: int
    sparse: bool
    """It takes less room than it has bytes."""


class Reading(Protocol):
    """A file being copied from."""

    info: Info

    def extent(self, offset: int) -> tuple[int, int]:
        """The next data at or after `offset`: where it begins and ends. OSError ENXIO when there is none."""
        ...

    def read(self, offset: int, length: int) -> bytes | memoryview:
        """Some of it; nothing at its end."""
        ...


class Writing(Protocol):
    """A file being copied to."""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """All of `data`."""
        ...

    def finish(self, size: int) -> None:
        """It has all its data; give it its size."""
        ...


class Side(Protocol):
    """Where files are."""

    def info(self, path: bytes, follow: bool) -> Info: ...
    def names(self, path: bytes) -> list[bytes]: ...
    def readlink(self, path: bytes) -> bytes: ...
    def mkdir(self, path: bytes, mode: int) -> None: ...
    def symlink(self, target: bytes, path: bytes) -> None: ...
    def mkfifo(self, path: bytes, mode: int) -> None: ...
    def attributes(self, path: bytes, mode: int | None, times: tuple[int, int] | None) -> None: ...
    def reading(self, path: bytes) -> AbstractContextManager[Reading]: ...
    def writing(self, path: bytes, mode: int) -> AbstractContextManager[Writing]: ...


def copy_file(
    source: Side, path: bytes, target: Side, to: bytes, progress: Progress, *, preserve: bool = False
) -> None:
    """Copy a file's content, permission bits, and with `preserve` its times; `to` is made or replaced."""
    with source.reading(path) as reading:
        info = reading.info
        with target.writing(to, stat.S_IMODE(info.mode) & 0o777) as writing:
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
        while at < end and (data := reading.read(at, min(_PIECE, end - at))):
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
    error: OSError | None


def copy_tree(
    source: Side, top: bytes, target: Side, to: bytes, progress: Progress, *, preserve: bool = False
) -> Iterator[Copied]:
    """Copy whatever is at `top`, links as links; each object as it is done, or what was wrong with it."""
    # Directories are done again at the end, deepest first: until then they can be written into, and keep no time.
    again: list[tuple[bytes, Info]] = []
    todo = [(top, to)]
    while todo:
        path, new = todo.pop()
        try:
            info = source.info(path, False)
            if stat.S_ISDIR(info.mode):
                _make_directory(target, new, info.mode)
                again.append((new, info))
                names = sorted(source.names(path), reverse=True)
                todo.extend((os.path.join(path, name), os.path.join(new, name)) for name in names)
            else:
                _copy_one(source, path, target, new, info, progress, preserve)
            yield Copied(path, None)
        except OSError as error:
            yield Copied(path, error)
    for new, info in reversed(again):
        times = (info.atime_ns, info.mtime_ns) if preserve else None
        try:
            target.attributes(new, info.mode & 0o777, times)
        except OSError as error:
            yield Copied(new, error)


def _make_directory(target: Side, path: bytes, mode: int) -> None:
    try:
        there = target.info(path, True)
    except FileNotFoundError:
        target.mkdir(path, (mode & 0o777) | 0o700)
    else:
        if not stat.S_ISDIR(there.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fsdecode(path))


def _copy_one(
    source: Side, path: bytes, target: Side, new: bytes, info: Info, progress: Progress, preserve: bool
) -> None:
    if stat.S_ISREG(info.mode):
        copy_file(source, path, target, new, progress, preserve=preserve)
    elif stat.S_ISLNK(info.mode):
        target.symlink(source.readlink(path), new)
    elif stat.S_ISFIFO(info.mode):
        target.mkfifo(new, info.mode & 0o777)
    else:
        raise OSError(errno.EOPNOTSUPP, "neither a file, a directory, a link nor a FIFO")


# ---- the gofer's side --------------------------------------------------------------------------------


class Remote:
    """The gofer's tree."""

    def __init__(self, client: GoferClient) -> None:
        self._client = client

    def info(self, path: bytes, follow: bool) -> Info:
        told = self._client.stat(path, follow_symlinks=follow)
        return Info(told.mode, told.size, told.atime_ns, told.mtime_ns, told.blocks * 512 < told.size)

    def names(self, path: bytes) -> list[bytes]:
        return [dent.name for dent in self._client.scandir(path, stats=False)]

    def readlink(self, path: bytes) -> bytes:
        return self._client.readlink(path)

    def mkdir(self, path: bytes, mode: int) -> None:
        self._client.mkdir(path, mode)

    def symlink(self, target: bytes, path: bytes) -> None:
        self._client.symlink(target, path)

    def mkfifo(self, path: bytes, mode: int) -> None:
        self._client.mkfifo(path, mode)

    def attributes(self, path: bytes, mode: int | None, times: tuple[int, int] | None) -> None:
        if mode is not None:
            self._client.chmod(path, mode)
        if times is not None:
            self._client.utime(path, times)

    @contextmanager
    def reading(self, path: bytes) -> Iterator[Reading]:
        with self._client.open_raw(path) as file:
            yield _RemoteReading(self._client, file)

    @contextmanager
    def writing(self, path: bytes, mode: int) -> Iterator[Writing]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with self._client.open_raw(path, flags, mode) as file:
            yield _RemoteWriting(file)


class _RemoteReading:
    def __init__(self, client: GoferClient, file: RemoteFile) -> None:
        told = client.gofer.stat(file.fid)
        self.info = Info(told.mode, told.size, told.atime_ns, told.mtime_ns, told.blocks * 512 < told.size)
        self._client = client
        self._file = file

    def extent(self, offset: int) -> tuple[int, int]:
        start = self._client.gofer.seek(self._file.fid, offset, os.SEEK_DATA)
        return start, self._client.gofer.seek(self._file.fid, start, os.SEEK_HOLE)

    def read(self, offset: int, length: int) -> bytes:
        return self._file.pread(length, offset)


class _RemoteWriting:
    def __init__(self, file: RemoteFile) -> None:
        self._file = file

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self._file.seek(offset)
        self._file.write_all(data)

    def finish(self, size: int) -> None:
        self._file.truncate(size)


# ---- this side ---------------------------------------------------------------------------------------


class Local:
    """This process's files."""

    def info(self, path: bytes, follow: bool) -> Info:
        return _info(os.stat(path, follow_symlinks=follow))

    def names(self, path: bytes) -> list[bytes]:
        return os.listdir(path)

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(path)

    def mkdir(self, path: bytes, mode: int) -> None:
        os.mkdir(path, mode)

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, path)

    def mkfifo(self, path: bytes, mode: int) -> None:
        os.mkfifo(path, mode)

    def attributes(self, path: bytes, mode: int | None, times: tuple[int, int] | None) -> None:
        if mode is not None:
            os.chmod(path, mode)
        if times is not None:
            os.utime(path, ns=times)

    @contextmanager
    def reading(self, path: bytes) -> Iterator[Reading]:
        with open(path, "rb", buffering=0) as file:
            yield _LocalReading(file.fileno())

    @contextmanager
    def writing(self, path: bytes, mode: int) -> Iterator[Writing]:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            yield _LocalWriting(fd)
        finally:
            os.close(fd)


class _LocalReading:
    def __init__(self, fd: int) -> None:
        self.info = _info(os.fstat(fd))
        self._fd = fd
        self._buffer = memoryview(bytearray(_PIECE))

    def extent(self, offset: int) -> tuple[int, int]:
        start = os.lseek(self._fd, offset, os.SEEK_DATA)
        return start, os.lseek(self._fd, start, os.SEEK_HOLE)

    def read(self, offset: int, length: int) -> memoryview:
        return self._buffer[: os.preadv(self._fd, [self._buffer[:length]], offset)]


class _LocalWriting:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, offset: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, offset)
            view = view[done:]
            offset += done

    def finish(self, size: int) -> None:
        with suppress(OSError):  # a device or a pipe has no size to be given
            os.ftruncate(self._fd, size)


def _info(told: os.stat_result) -> Info:
    return Info(
        told.st_mode, told.st_size, told.st_atime_ns, told.st_mtime_ns, told.st_blocks * 512 < told.st_size
    )


# ---- one file, by path -------------------------------------------------------------------------------


def download(client: GoferClient, source: str, target: str, progress: Progress) -> None:
    """Copy a file of the tree to a local one, which is made or replaced."""
    copy_file(Remote(client), os.fsencode(source), Local(), os.fsencode(target), progress)


def upload(client: GoferClient, source: str, target: str, progress: Progress) -> None:
    """Copy a local file to one of the tree, which is made or replaced."""
    copy_file(Local(), os.fsencode(source), Remote(client), os.fsencode(target), progress)
