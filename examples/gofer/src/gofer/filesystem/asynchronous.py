"""AsyncGoferFileSystem: GoferFileSystem in an event loop, as fsspec's asynchronous file systems are used.

    files = AsyncGoferFileSystem(socket="/run/gofer.sock", asynchronous=True)
    names = await files._ls("/set", detail=False)
    contents = await files._cat(names)                      # at the same time, a channel each

Its operations are GoferFileSystem's, under gofer.awaiting.run. Needs the extra `asyncio`.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from typing import Any

from fsspec.asyn import AbstractAsyncStreamedFile, AsyncFileSystem, sync

import flipcall
from gofer.awaiting import AwaitingClient, run
from gofer.client import GoferClient
from gofer.file import RemoteFile
from gofer.filesystem.files import GoferFileSystem

_CHANNELS = 16
"""Calls at a time, others queue: a gofer gives one process 64 channels, and more are served no sooner."""


_FLAGS = {
    "rb": os.O_RDONLY,
    "wb": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
}


class _Files(GoferFileSystem):
    """The operations, on a connection of one loop."""

    cachable = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._connecting = asyncio.Lock()

    @property
    def client(self) -> GoferClient:
        """The connection, which `connect` has made."""
        if self._client is None:  # another task has found meanwhile that the gofer is gone
            raise flipcall.ClosedError("the connection to the gofer is over")
        return self._client

    async def connect(self) -> None:
        """Make a connection, where there is none or no more."""
        if self._client is None:
            async with self._connecting:
                if self._client is None:
                    self._client = await run(
                        AwaitingClient, self.socket, timeout=self._timeout, max_channels=_CHANNELS
                    )


def _awaiting(operation: Callable[..., Any]) -> Any:
    """An operation of GoferFileSystem as a coroutine function."""

    @functools.wraps(operation)
    async def method(self: AsyncGoferFileSystem, *args: Any, **kwargs: Any) -> Any:
        return await run(operation, await self._connected(), *args, **kwargs)

    return method


def _waiting(name: str) -> Any:
    """The same for who is in no loop: what AsyncFileSystem does itself with the operations it knows."""

    def method(self: AsyncGoferFileSystem, *args: Any, **kwargs: Any) -> Any:
        return sync(self.loop, getattr(self, name), *args, **kwargs)

    return method


class AsyncGoferFile(AbstractAsyncStreamedFile):
    """A file that `open_async` opened: `read`, `write` and `close` are awaited; `async with` closes it."""

    def __init__(self, fs: AsyncGoferFileSystem, raw: RemoteFile, path: str, mode: str, size: int) -> None:
        super().__init__(fs, path, mode, size=size)
        self._raw = raw
        self.loc = size if mode == "ab" else 0

    async def _fetch_range(self, start: int, end: int) -> bytes:
        return await run(self._raw.pread, end - start, start)

    async def _upload_chunk(self, final: bool = False) -> None:
        await run(self._raw.write_all, self.buffer.getvalue())

    async def close(self) -> None:
        """Write what is buffered, and give the file back. Idempotent."""
        try:
            await super().close()
        finally:
            await run(self._raw.close)


class AsyncGoferFileSystem(AsyncFileSystem):
    """The files of a gofer, for tasks of an event loop; without `asynchronous`, for threads, in fsspec's own loop.

    Options as of GoferFileSystem, but for `transport`. Connects when first used, in every loop and process anew.
    Cancelling a task cancels the call it waits for. `open` is a blocking GoferFileSystem's;
    tasks have `open_async`.
    """

    protocol = "gofer"
    root_marker = "/"
    _strip_protocol: Any = GoferFileSystem._strip_protocol
    _get_kwargs_from_urls = staticmethod(GoferFileSystem._get_kwargs_from_urls)

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        auto_mkdir: bool = False,
        timeout: float | None = 30.0,
        **options: Any,
    ) -> None:
        """`options`: fsspec's (`asynchronous`, `loop`, `batch_size`, ...)."""
        super().__init__(**options)
        self._options: dict[str, Any] = {"socket": socket, "auto_mkdir": auto_mkdir, "timeout": timeout}
        self._blocking = GoferFileSystem(**self._options)
        self._by_loop: dict[asyncio.AbstractEventLoop, _Files] = {}
        self._owner = os.getpid()

    @property
    def fsid(self) -> str:
        """What tells this file system from others: it is the same as the synchronous one."""
        return self._blocking.fsid

    async def _connected(self) -> _Files:
        if self._owner != os.getpid():
            self._by_loop, self._owner = {}, os.getpid()  # the parent's, and the parent's loops
        loop = asyncio.get_running_loop()
        files = self._by_loop.get(loop)
        if files is None:
            for former in [one for one in self._by_loop if one.is_closed()]:
                self._by_loop.pop(former).close()
            files = self._by_loop[loop] = _Files(**self._options)
        await files.connect()
        return files

    async def aclose(self) -> None:
        """End this loop's connection, and that of `open`; the next use makes others."""
        self._blocking.close()
        files = self._by_loop.pop(asyncio.get_running_loop(), None)
        if files is not None:
            files.close()

    _info = _awaiting(GoferFileSystem.info)
    _ls = _awaiting(GoferFileSystem.ls)
    _exists = _awaiting(GoferFileSystem.exists)
    _lexists = _awaiting(GoferFileSystem.lexists)
    _cat_file = _awaiting(GoferFileSystem.cat_file)
    _pipe_file = _awaiting(GoferFileSystem.pipe_file)
    _touch = _awaiting(GoferFileSystem.touch)
    _cp_file = _awaiting(GoferFileSystem.cp_file)
    _get_file = _awaiting(GoferFileSystem.get_file)
    _put_file = _awaiting(GoferFileSystem.put_file)
    _mkdir = _awaiting(GoferFileSystem.mkdir)
    _makedirs = _awaiting(GoferFileSystem.makedirs)
    _rmdir = _awaiting(GoferFileSystem.rmdir)
    _rm_file = _awaiting(GoferFileSystem.rm_file)
    _rm = _awaiting(GoferFileSystem.rm)
    _mv = _awaiting(GoferFileSystem.mv)
    _chmod = _awaiting(GoferFileSystem.chmod)
    _created = _awaiting(GoferFileSystem.created)
    _modified = _awaiting(GoferFileSystem.modified)

    lexists = _waiting("_lexists")
    touch = _waiting("_touch")
    rmdir = _waiting("_rmdir")
    mv = _waiting("_mv")
    chmod = _waiting("_chmod")
    created = _waiting("_created")
    modified = _waiting("_modified")
    close = _waiting("aclose")

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        """An AsyncGoferFile to read ("rb"), to make or replace ("wb") or to write on ("ab"), piece by piece."""
        if mode not in _FLAGS:
            raise NotImplementedError(f"file mode {mode!r}")
        files, path = await self._connected(), self._strip_protocol(path)

        def open_and_stat() -> tuple[RemoteFile, int]:
            raw = files.client.open_raw(path, _FLAGS[mode])
            return raw, files.client.gofer.stat(raw.fid).size

        raw, size = await run(open_and_stat)
        return AsyncGoferFile(self, raw, path, mode, size)

    def _open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        return self._blocking._open(path, mode, *args, **kwargs)
