"""An open file of GoferFileSystem: fsspec's buffers and caches around a file of the gofer's."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractBufferedFile

import flipcall
from gofer.client import GoferClient

if TYPE_CHECKING:
    from gofer.filesystem.files import GoferFileSystem

_FLAGS = {
    "rb": os.O_RDONLY,
    "wb": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "xb": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
}


class GoferFile(AbstractBufferedFile):
    """Open from the start, so that what is wrong is raised where it is opened.

    Without `autocommit` (in a transaction of fsspec's) what is written is in a file of another name beside it,
    which `commit` renames and `discard` removes.
    """

    closed: bool
    offset: int | None

    def __init__(
        self,
        fs: GoferFileSystem,
        client: GoferClient,
        path: str,
        mode: str,
        *,
        autocommit: bool = True,
        size: int | None = None,
        **options: Any,
    ) -> None:
        """`size`, which fsspec passes when it opens a file anew, is asked for all the same."""
        if mode not in _FLAGS:
            raise NotImplementedError(f"file mode {mode!r}")
        self._client = client
        self._temporary: str | None = None
        if not autocommit and mode in ("wb", "xb"):
            if mode == "xb" and fs.lexists(path):
                raise FileExistsError(17, os.strerror(17), path)
            head, _, name = path.rpartition("/")
            self._temporary = f"{head}/.{name[:200]}.{secrets.token_hex(8)}.tmp"
            self._raw = client.open_raw(self._temporary, _FLAGS["xb"])
        else:
            self._raw = client.open_raw(path, _FLAGS[mode])
        self._host: flipcall.Fd | None = None
        try:
            if mode == "rb" and client.limits.donates:
                # Then nothing that is read goes through the gofer. It donates regular files alone.
                with contextlib.suppress(OSError):
                    self._host = self._raw.donated()
            size = client.gofer.stat(self._raw.fid).size if mode in ("rb", "ab") else None
            super().__init__(fs, path, mode, autocommit=autocommit, size=size, **options)
        except BaseException:
            self._raw.close()
            self._close_host()
            raise
        if mode == "ab":
            self.loc = size or 0

    def _fetch_range(self, start: int, end: int) -> bytes:
        if self._host is not None:
            return os.pread(self._host.fileno(), end - start, start)
        return self._raw.pread(end - start, start)

    def _upload_chunk(self, final: bool = False) -> None:
        self._raw.write_all(self.buffer.getbuffer())

    def flush(self, force: bool = False) -> None:
        """What was written is in the file afterwards, however little it is."""
        if self.closed or self.mode == "rb":
            return
        self.offset = (self.offset or 0) + self.buffer.tell()
        self._upload_chunk(force)
        self.buffer.seek(0)
        self.buffer.truncate()

    def close(self) -> None:
        """Write what is buffered, and close. Idempotent."""
        if self.closed:  # also when it was never opened
            return
        try:
            if self.mode != "rb":
                self.flush(force=True)
        finally:
            self.closed = True  # pyright: ignore[reportIncompatibleMethodOverride]
            self._raw.close()
            self._close_host()

    def _close_host(self) -> None:
        if self._host is not None:
            self._host.close()

    def commit(self) -> None:
        """Put what was written in its place."""
        if self._temporary is not None:
            self.close()
            self._client.rename(self._temporary, self.path)
            self._temporary = None

    def discard(self) -> None:
        """Let what was written be gone."""
        if self._temporary is not None:
            self._raw.close()
            self.closed = True  # pyright: ignore[reportIncompatibleMethodOverride]
            self._client.unlink(self._temporary)
            self._temporary = None
