"""Where files are that are copied: here, or in the gofer's tree, with the same few functions.

A source tells its data in extents; a target is written at offsets and given its size at the end: holes stay holes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol

from gofer.client import GoferClient
from gofer.file import RemoteFile

PIECE = 1 << 20
"""Bytes copied at a time, at most."""


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
    def unlink(self, path: bytes) -> None: ...
    def reading(self, path: bytes) -> AbstractContextManager[Reading]: ...
    def writing(self, path: bytes, mode: int, follow: bool) -> AbstractContextManager[Writing]: ...


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

    def unlink(self, path: bytes) -> None:
        self._client.unlink(path)

    @contextmanager
    def reading(self, path: bytes) -> Iterator[Reading]:
        with self._client.open_raw(path) as file:
            yield _RemoteReading(self._client, file)

    @contextmanager
    def writing(self, path: bytes, mode: int, follow: bool) -> Iterator[Writing]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW * (not follow)
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

    def unlink(self, path: bytes) -> None:
        os.unlink(path)

    @contextmanager
    def reading(self, path: bytes) -> Iterator[Reading]:
        with open(path, "rb", buffering=0) as file:
            yield _LocalReading(file.fileno())

    @contextmanager
    def writing(self, path: bytes, mode: int, follow: bool) -> Iterator[Writing]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW * (not follow)
        fd = os.open(path, flags, mode)
        try:
            yield _LocalWriting(fd)
        finally:
            os.close(fd)


class _LocalReading:
    def __init__(self, fd: int) -> None:
        self.info = _info(os.fstat(fd))
        self._fd = fd
        self._stream = not stat.S_ISREG(self.info.mode)
        self._buffer = memoryview(bytearray(PIECE))

    def extent(self, offset: int) -> tuple[int, int]:
        start = os.lseek(self._fd, offset, os.SEEK_DATA)
        return start, os.lseek(self._fd, start, os.SEEK_HOLE)

    def read(self, offset: int, length: int) -> memoryview:
        buffer = self._buffer[:length]
        if self._stream:  # a pipe or a terminal has no offsets; it is read from its start to its end
            return buffer[: os.readv(self._fd, [buffer])]
        return buffer[: os.preadv(self._fd, [buffer], offset)]


class _LocalWriting:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stream = not stat.S_ISREG(os.fstat(fd).st_mode)
        self._written = 0

    def write(self, offset: int, data: bytes | memoryview) -> None:
        if self._stream:
            self._write_on(offset, data)
            return
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, offset)
            view = view[done:]
            offset += done

    def finish(self, size: int) -> None:
        if self._stream:
            self._write_on(size, b"")
        else:
            os.ftruncate(self._fd, size)

    def _write_on(self, offset: int, data: bytes | memoryview) -> None:
        """To what has no offsets, and so no holes either: what is before `offset` is zeros."""
        while self._written < offset:
            self._written += os.write(self._fd, bytes(min(PIECE, offset - self._written)))
        view = memoryview(data)
        while view:
            done = os.write(self._fd, view)
            view = view[done:]
            self._written += done


def _info(told: os.stat_result) -> Info:
    return Info(
        told.st_mode, told.st_size, told.st_atime_ns, told.st_mtime_ns, told.st_blocks * 512 < told.st_size
    )
