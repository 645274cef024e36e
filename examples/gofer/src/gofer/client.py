"""GoferClient: the files of a gofer, by path.

What `os` offers for local files, for a tree that is somewhere else. Paths are relative to the gofer's root,
with or without a leading `/`; they may be str (names that are not UTF-8 with surrogateescape), bytes or path
objects. Symbolic links and `..` are resolved here (resolve.py) and cannot lead out. Errors are OSError with
errno and the path, as `os` raises them; what goes wrong between the processes is flipcall.FlipcallError.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import deque
from collections.abc import Iterator
from typing import IO, Any, Literal, cast

import flipcall
from gofer import names
from gofer.file import RemoteFile
from gofer.protocol import WINDOW, Dent, Gofer, Place, Stat, Stop
from gofer.resolve import Resolved, Resolver

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Transport = Literal["window", "socket"]

_OVERHEAD = 256
"""Bytes of a message that are not bulk data: headers, and a read's or write's numbers."""

_RELEASE_BATCH = 64
"""Control FIDs given back in one call; until then they cost the server a descriptor each."""

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


class GoferClient:
    """A connection to a gofer. Thread-safe; a context manager.

    `gofer` is the typed service underneath and `root` the root's inode, for those who speak FIDs themselves.

    Raises what flipcall.connect raises, and OSError when the gofer cannot mount.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        transport: Transport = "window",
        window_size: int = WINDOW,
        timeout: float | None = 30.0,
        **options: Any,
    ) -> None:
        """`timeout`: seconds a call, None for ever; `options` go to flipcall.connect (max_channels, ...)."""
        self.gofer: Gofer = flipcall.connect(
            Gofer, os.fspath(path), transport=transport, window_size=window_size, timeout=timeout, **options
        )
        try:
            self.limits = self.gofer.mount()
        except BaseException:
            self._disconnect()
            raise
        self.root = self.limits.root
        bulk = window_size - _OVERHEAD
        self.max_read = min(self.limits.max_read, bulk)
        self.max_write = min(self.limits.max_write, bulk)
        self._listing = min(bulk, 1 << 18)
        walk_max = max(1, min(self.limits.max_names, bulk // 320))  # no name and no Inode is longer
        self._resolver = Resolver(self.gofer, self.root, walk_max, self.release)
        # A deque (its methods are atomic) and no lock: a file may be finalised, and so closed, at any moment.
        self.released: deque[int] = deque()

    def close(self) -> None:
        """End the session; the gofer closes every FID of it. Idempotent."""
        self._disconnect()

    def _disconnect(self) -> None:
        cast(Any, self.gofer).close()  # connect() returns a client, typed as the service it stands for

    def __enter__(self) -> GoferClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- looking -------------------------------------------------------------------------------------

    def stat(self, path: Path, *, follow_symlinks: bool = True) -> Stat:
        """As os.stat; one round trip where no link and no `..` is on the way."""
        with _named(path):
            raw = names.encode(path)
            plain = self._resolver.plain(raw)
            if plain:
                walked = self.gofer.walk_stat(self.root.fid, plain, False)
                whole = walked.walked == len(plain)
                if walked.stop is Stop.MISSING:
                    raise FileNotFoundError(2, os.strerror(2))
                if whole and (walked.stop is Stop.DONE or not follow_symlinks):
                    return walked.stats[-1]
            with self._resolver.resolve(raw, follow=follow_symlinks) as found:
                return found.inode.stat

    def lstat(self, path: Path) -> Stat:
        """As os.lstat."""
        return self.stat(path, follow_symlinks=False)

    def readlink(self, path: Path) -> bytes:
        """The target of a symbolic link, as bytes: it may be anything."""
        with _named(path), self._resolver.resolve(names.encode(path), follow=False) as found:
            return self.gofer.readlink(found.inode.fid)

    def listdir(self, path: Path = "/") -> list[str]:
        """The names in a directory, in the file system's order."""
        return [names.decode(entry.name) for entry in self.scandir(path, stats=False)]

    def scandir(self, path: Path = "/", *, stats: bool = True) -> Iterator[Dent]:
        """The entries of a directory, with their attributes unless told otherwise; many a round trip.

        A generator: the directory is opened when the first entry is asked for, and errors come then.
        """
        with _named(path), self._resolver.resolve(names.encode(path)) as found:
            fid = self.gofer.open(found.inode.fid, os.O_RDONLY | os.O_DIRECTORY).fid
        try:
            cookie, end = 0, False
            while not end:
                with _named(path):
                    dents = self.gofer.getdents(fid, cookie, self._listing, stats)
                cookie, end = dents.next, dents.end
                yield from dents.entries
        finally:
            self.close_fid(fid)

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
        """As os.open: flags may also hold O_CREAT and O_EXCL, which the client resolves."""
        with _named(path):
            raw = names.encode(path)
            given = flags & ~(os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW)
            exclusive = bool(flags & os.O_CREAT and flags & os.O_EXCL)
            follow = not (exclusive or flags & os.O_NOFOLLOW)
            for attempt in range(_CREATE_TRIES):
                with self._resolver.resolve(raw, follow=follow) as found:
                    if found.missing is not None and flags & os.O_CREAT:
                        if raw.endswith(b"/"):
                            raise IsADirectoryError(21, os.strerror(21))
                        try:
                            created = self.gofer.create(found.place, given, mode, None)
                        except FileExistsError:
                            if exclusive or attempt == _CREATE_TRIES - 1:
                                raise
                            continue
                        self.release([created.inode.fid])
                        return self._file(created.opened, given, path)
                    inode = found.inode
                    if exclusive:
                        raise FileExistsError(17, os.strerror(17))
                    return self._file(self.gofer.open(inode.fid, given).fid, given, path)
            raise AssertionError("unreachable: the last attempt returns or raises")

    def _file(self, fid: int, flags: int, path: Path) -> RemoteFile:
        return RemoteFile(
            self.gofer,
            fid,
            flags,
            max_read=self.max_read,
            max_write=self.max_write,
            release=self.close_fid,
            name=names.decode(names.encode(path)),
        )

    def read_bytes(self, path: Path) -> bytes:
        """The whole of a file."""
        with self.open_raw(path) as file, _named(path):
            return file.readall()

    def write_bytes(self, path: Path, data: bytes | bytearray | memoryview) -> None:
        """Make or replace a file."""
        with self.open_raw(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file, _named(path):
            file.write_all(data)

    # ---- changing ------------------------------------------------------------------------------------

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        """As os.mkdir."""
        with self._parent(path) as (found, name):
            self.release([self.gofer.mkdir(Place(found.inode.fid, name), mode, None).fid])

    def unlink(self, path: Path) -> None:
        """As os.unlink."""
        with self._parent(path) as (found, name):
            self.gofer.unlink(Place(found.inode.fid, name), False)

    def rmdir(self, path: Path) -> None:
        """As os.rmdir."""
        with self._parent(path) as (found, name):
            self.gofer.unlink(Place(found.inode.fid, name), True)

    def rename(self, old: Path, new: Path) -> None:
        """As os.rename."""
        with self._parent(old) as (source, name), self._parent(new) as (target, new_name):
            self.gofer.rename(Place(source.inode.fid, name), Place(target.inode.fid, new_name), 0)

    @contextlib.contextmanager
    def _parent(self, path: Path) -> Iterator[tuple[Resolved, bytes]]:
        with _named(path):
            found, name = self._resolver.parent(names.encode(path))
            with found:
                yield found, name

    # ---- FIDs ----------------------------------------------------------------------------------------

    def fid(self, path: Path) -> int:
        """A control FID of `path`, for calls on `gofer`; the caller gives it back, or the end of the session
        does.
        """
        with _named(path), self._resolver.resolve(names.encode(path)) as found:
            if found.inode is self.root:  # which is the client's own: a FID more of it
                return self.gofer.mount().root.fid
            return found.take()

    def release(self, fids: list[int]) -> None:
        """Give control FIDs back some time soon, in one call for many."""
        self.released.extend(fids)
        if len(self.released) >= _RELEASE_BATCH:
            self._close_now([])

    def close_fid(self, fid: int) -> None:
        """Close an open FID now, and what else is due with it."""
        self._close_now([fid])

    def _close_now(self, fids: list[int]) -> None:
        try:
            while len(fids) < 4 * _RELEASE_BATCH:
                fids.append(self.released.popleft())
        except IndexError:
            pass
        # A client that is closed has given everything back already.
        with contextlib.suppress(flipcall.ClosedError):
            self.gofer.close_fids(fids)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which path an errno is about, as `os` does; the server knows no paths."""
    try:
        yield
    except flipcall.FlipcallError:
        raise
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), names.decode(names.encode(path))) from error
