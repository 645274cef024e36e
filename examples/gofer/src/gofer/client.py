"""GoferClient: the files of a gofer, by path.

What `os` offers for local files, for a tree that is somewhere else. Paths are relative to the gofer's root,
with or without a leading `/`; they may be str (names that are not UTF-8 with surrogateescape), bytes or path
objects. Symbolic links and `..` are resolved here (resolve.py) and cannot lead out. Errors are OSError with
errno and the path, as `os` raises them; what goes wrong between the processes is flipcall.FlipcallError.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from typing import IO, Any, cast

from gofer import names
from gofer.edits import Edits
from gofer.file import RemoteFile
from gofer.mounted import Path, Transport, explain, named
from gofer.protocol import Dent, Opened, Stat, StatFs, Stop

__all__ = ["GoferClient", "Path", "Transport"]

_MODES = {
    "r": os.O_RDONLY,
    "r+": os.O_RDWR,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "w+": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "a+": os.O_RDWR | os.O_CREAT | os.O_APPEND,
    "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "x+": os.O_RDWR | os.O_CREAT | os.O_EXCL,
}

_CREATE_TRIES = 16
"""A name may be made and removed by others between our looking and our creating it; not for ever."""

_OURS = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
"""Flags that are the client's business."""


class GoferClient(Edits):
    """A connection to a gofer: see MountedTree for what is given to it."""

    # ---- looking -------------------------------------------------------------------------------------

    def stat(self, path: Path, *, follow_symlinks: bool = True) -> Stat:
        """As os.stat; one round trip where no link and no `..` is on the way."""
        raw = names.encode(path)
        try:
            plain = self._resolver.plain(raw)
            if plain:
                walked = self.gofer.walk_stat(self.root.fid, plain, False)
                if walked.stop is Stop.MISSING:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                if walked.stop is Stop.DONE or (walked.walked == len(plain) and not follow_symlinks):
                    return walked.stats[-1]
            with self._resolver.resolve(raw, follow=follow_symlinks) as found:
                return found.inode.stat
        except OSError as error:
            explain(path, error)

    def lstat(self, path: Path) -> Stat:
        """As os.lstat."""
        return self.stat(path, follow_symlinks=False)

    def readlink(self, path: Path) -> bytes:
        """The target of a symbolic link, as bytes: it may be anything."""
        with self._at(path, follow=False) as found:
            return self.gofer.readlink(found.inode.fid)

    def statvfs(self, path: Path = "/") -> StatFs:
        """As os.statvfs."""
        with self._at(path) as found:
            return self.gofer.statfs(found.inode.fid)

    def listdir(self, path: Path = "/") -> list[str]:
        """The names in a directory, in the file system's order."""
        return [names.decode(entry.name) for entry in self.scandir(path, stats=False)]

    def scandir(self, path: Path = "/", *, stats: bool = True) -> Iterator[Dent]:
        """The entries of a directory, with their attributes unless told otherwise; many a round trip.

        A generator: the directory is opened when the first entry is asked for, and errors come then.
        """
        fid = self._open_existing(path, names.encode(path), os.O_RDONLY | os.O_DIRECTORY).fid
        try:
            cookie, end = 0, False
            while not end:
                with named(path):
                    dents = self.gofer.getdents(fid, cookie, self._listing, stats)
                cookie, end = dents.next, dents.end
                yield from dents.entries
        finally:
            self.release([fid])

    def exists(self, path: Path) -> bool:
        """Whether the path leads to something (a dangling link does not)."""
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    # ---- files ---------------------------------------------------------------------------------------

    def open(
        self, path: Path, mode: str = "r", *, buffering: int = -1, encoding: str | None = None
    ) -> IO[Any]:
        """As the built-in open: binary with "b" in the mode, text otherwise; new files have mode 0666.

        `buffering`: 0 for the raw file (binary only), otherwise the buffer's size, 128 KiB by default.
        """
        binary = "b" in mode
        plain = mode.replace("b", "").replace("t", "")
        if plain not in _MODES or ("b" in mode and "t" in mode):
            raise ValueError(f"invalid mode: {mode!r}")
        if buffering == 0 and not binary:
            raise ValueError("text cannot be unbuffered")
        raw = self.open_raw(path, _MODES[plain])
        if buffering == 0:
            return cast(IO[Any], raw)
        size = buffering if buffering > 1 else 1 << 17
        try:
            buffered: io.BufferedRandom | io.BufferedReader | io.BufferedWriter
            if raw.readable() and raw.writable():
                buffered = io.BufferedRandom(raw, size)
            elif raw.writable():
                buffered = io.BufferedWriter(raw, size)
            else:
                buffered = io.BufferedReader(raw, size)
            return buffered if binary else io.TextIOWrapper(buffered, encoding=encoding or "utf-8")
        except BaseException:
            raw.close()
            raise

    def open_raw(self, path: Path, flags: int = os.O_RDONLY, mode: int = 0o666) -> RemoteFile:
        """As os.open: flags may also hold O_CREAT and O_EXCL, which the client resolves. One round trip to open
        what exists where no link and no `..` is on the way.
        """
        raw = names.encode(path)
        given = flags & ~_OURS
        if flags & os.O_CREAT:
            fid = self._open_or_create(path, raw, flags, mode)
        else:
            fid = self._open_existing(path, raw, given, not flags & os.O_NOFOLLOW).fid
        # Whatever was opened for writing is closed at once, and asked how that went.
        writes = given & os.O_ACCMODE != os.O_RDONLY
        return RemoteFile(self, fid, given, self._close_fid if writes else self._forget, path)

    def _forget(self, fid: int) -> None:
        self.release([fid])

    def _open_existing(self, path: Path, raw: bytes, flags: int, follow: bool = True) -> Opened:
        try:
            plain = self._resolver.plain(raw)
            if plain:
                try:
                    return self.gofer.walk_open(self.root.fid, plain, flags, 0)
                except OSError as error:
                    if error.errno != errno.ELOOP:
                        raise  # else there is a link on the way
            with self._resolver.resolve(raw, follow=follow) as found:
                return self.gofer.open(found.inode.fid, flags)
        except OSError as error:
            explain(path, error)

    def _open_or_create(self, path: Path, raw: bytes, flags: int, mode: int) -> int:
        given = flags & ~_OURS
        exclusive = bool(flags & os.O_EXCL)
        follow = not (exclusive or flags & os.O_NOFOLLOW)
        with named(path):
            for attempt in range(_CREATE_TRIES):
                with self._resolver.resolve(raw, follow=follow) as found:
                    if found.missing is None:
                        if exclusive:
                            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                        return self.gofer.open(found.inode.fid, given).fid
                    if raw.endswith(b"/"):
                        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                    try:
                        created = self.gofer.create(found.place, given, mode, None)
                    except FileExistsError:
                        if exclusive or attempt == _CREATE_TRIES - 1:
                            raise
                        continue
                    self.release([created.inode.fid])
                    return created.opened
        raise AssertionError("unreachable: the last attempt returns or raises")

    def read_bytes(self, path: Path) -> bytes:
        """The whole of a file."""
        with self.open_raw(path) as file, named(path):
            return file.readall()

    def write_bytes(self, path: Path, data: bytes | bytearray | memoryview) -> None:
        """Make or replace a file."""
        with self.open_raw(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file, named(path):
            file.write_all(data)
