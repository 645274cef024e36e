"""The requests that come by the two rows: each a task of the mount's loop, which answers it."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

import pyfuse3

from gofer.fuse import rows

log = logging.getLogger("gofer.mount")


class Rows(Protocol):
    """What the two rows call. As pyfuse3's handlers, they raise FUSEError and nothing else."""

    async def fallocate(self, fh: pyfuse3.FileHandleT, mode: int, offset: int, length: int) -> None:
        """As fallocate(2)."""

    async def lseek(self, fh: pyfuse3.FileHandleT, offset: int, whence: int) -> int:
        """As lseek(2), of SEEK_DATA and SEEK_HOLE."""
        raise NotImplementedError


class _Mount:
    """The one of this process: pyfuse3 has one session. A task is started, and runs later."""

    operations: Rows
    start: Callable[[Coroutine[Any, Any, None]], None]
    has_rows = False


@contextlib.contextmanager
def added(operations: Rows, start: Callable[[Coroutine[Any, Any, None]], None]) -> Iterator[None]:
    """In the block, the session that pyfuse3 makes gets the rows. Requests may come until it is closed."""
    if rows.why_not is not None:
        yield
        return
    _Mount.operations, _Mount.start, _Mount.has_rows = operations, start, False
    rows.lib.rows_arm(True)
    try:
        yield
        _Mount.has_rows = not rows.lib.rows_armed()
    finally:
        rows.lib.rows_arm(False)


def report() -> str:
    """One line for who mounts, after `added`: whether they are there, and if not, why."""
    if rows.why_not is not None:
        return f"not available: {rows.why_not}"
    if not _Mount.has_rows:
        return "not available: pyfuse3 does not ask the dynamic linker for libfuse's fuse_session_new"
    return "available"


async def _answer(request: Any, asked: Coroutine[Any, Any, int | None]) -> None:
    """Answer once. The loop runs all tasks to their end before the session is closed; one that it leaves, when a
    second signal ends it, is not resumed and answers nothing: the kernel tells who waits that the mount is gone.
    """
    try:
        offset = await asked
    except pyfuse3.FUSEError as error:
        failed = rows.lib.rows_reply_error(request, error.errno)
    else:
        if offset is None:
            failed = rows.lib.rows_reply_error(request, 0)
        else:
            failed = rows.lib.rows_reply_offset(request, offset)
    if failed:
        log.debug("answering: %s", errno.errorcode.get(-failed, failed))  # the mount is gone, or who asked


def _fallocate(request: Any, handle: int, mode: int, offset: int, length: int) -> int:
    asked = _Mount.operations.fallocate(pyfuse3.FileHandleT(handle), mode, offset, length)
    _Mount.start(_answer(request, asked))
    return 1


def _lseek(request: Any, handle: int, offset: int, whence: int) -> int:
    _Mount.start(_answer(request, _Mount.operations.lseek(pyfuse3.FileHandleT(handle), offset, whence)))
    return 1


if rows.ffi is not None:
    # Should one raise, that is printed and the row answers EIO.
    rows.ffi.def_extern("rows_fallocate", error=0)(_fallocate)
    rows.ffi.def_extern("rows_lseek", error=0)(_lseek)
