"""An open file, as Python's io knows files."""

from __future__ import annotations

import errno
import io
import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import flipcall
from gofer import names
from gofer.protocol import SetStat

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer, WriteableBuffer

    from gofer.mounted import MountedTree, Path


class RemoteFile(io.RawIOBase):
    """An open FID with a position of its own, which lives here: the server knows offsets only.

    As any raw file: `read(n)` and `write(b)` move what one system call moves, at most `max_read` and
    `max_write` bytes; `read_all` and `write_all` and the buffered file around it (GoferClient.open) do the
    rest. One thread at a time uses one RemoteFile; `pread` keeps no state and may be called by all.
    """

    def __init__(
        self, tree: MountedTree, fid: int, flags: int, release: Callable[[int], None], path: Path
    ) -> None:
        """`release` is called with the FID when the file is closed."""
        self._gofer = tree.gofer
        self._read_into = tree.read_into
        self.fid = fid
        self._flags = flags
        self._max_read = tree.max_read
        self._max_write = tree.max_write
        self._release = release
        self._position = 0
        self._path = path

    @property
    def name(self) -> str:
        """The path it was opened by."""
        return names.decode(names.encode(self._path))

    # ---- reading -------------------------------------------------------------------------------------

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return self._flags & os.O_ACCMODE != os.O_WRONLY

    def view(self, length: int, offset: int) -> AbstractContextManager[memoryview]:
        """Bytes at `offset` where they lie, without a copy: one call's worth of them, none at the end.

        For as long as the block lasts; see flipcall.view. The gofer could change them meanwhile.
        """
        return flipcall.view(self._gofer.read, self.fid, offset, min(length, self._max_read))

    def donated(self) -> flipcall.Fd:
        """The host's descriptor of the file, the caller's own. PermissionError unless the gofer donates them."""
        return self._gofer.donate(self.fid)

    def pread(self, length: int, offset: int) -> bytes:
        """Bytes at `offset`, in as many calls as it takes; fewer than asked only at the end."""
        chunks: list[bytes] = []
        done = 0
        while done < length:
            data = self._gofer.read(self.fid, offset + done, min(length - done, self._max_read))
            if not data:
                break
            chunks.append(data)
            done += len(data)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def readinto(self, buffer: WriteableBuffer) -> int:
        """One call's worth into `buffer`; 0 at the end."""
        view = memoryview(buffer).cast("B")
        self._check_readable()
        count = self._read_into(
            view[: self._max_read], self.fid, self._position, min(len(view), self._max_read)
        )
        self._position += count
        return count

    def readall(self) -> bytes:
        """Everything from the position to the end."""
        self._check_readable()
        chunks: list[bytes] = []
        while data := self._gofer.read(self.fid, self._position, self._max_read):
            self._position += len(data)
            chunks.append(data)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    # ---- writing -------------------------------------------------------------------------------------

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._flags & os.O_ACCMODE != os.O_RDONLY

    def write(self, data: ReadableBuffer) -> int:
        """One call's worth of `data`; how many bytes that was."""
        self._check_open()
        if not self.writable():
            raise io.UnsupportedOperation("not open for writing")
        view = memoryview(data).cast("B")[: self._max_write]
        done = self._gofer.write(self.fid, self._position, view)
        if self._flags & os.O_APPEND:
            self._position = self._gofer.stat(self.fid).size
        else:
            self._position += done
        return done

    def write_all(self, data: ReadableBuffer) -> None:
        """All of `data`."""
        view = memoryview(data).cast("B")
        while view:
            view = view[self.write(view) :]

    def truncate(self, size: int | None = None) -> int:
        """Set the size; without one, to the position."""
        self._check_open()
        size = self._position if size is None else size
        done = self._gofer.set_stat(self.fid, SetStat(size=size))
        if done.failed:
            raise OSError(done.errno, os.strerror(done.errno))
        return size

    def fsync(self) -> None:
        """Bring what was written to the disk; a buffered file around it is to be flushed first."""
        self._check_open()
        self._gofer.fsync([self.fid], False)

    # ---- position ------------------------------------------------------------------------------------

    def seekable(self) -> bool:
        """Always: the position is ours."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; past the end is allowed, before the start is EINVAL."""
        self._check_open()
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._gofer.stat(self.fid).size
        elif whence != os.SEEK_SET:
            raise ValueError(f"whence {whence} is none of SEEK_SET, SEEK_CUR, SEEK_END")
        if offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = offset
        return offset

    def tell(self) -> int:
        """The position."""
        self._check_open()
        return self._position

    # ---- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Flush what is buffered around it and give the FID back; idempotent."""
        if not self.closed:
            try:
                super().close()
            finally:
                self._release(self.fid)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _check_readable(self) -> None:
        self._check_open()
        if not self.readable():
            raise io.UnsupportedOperation("not open for reading")
