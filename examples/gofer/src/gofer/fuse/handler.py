"""What every operation of the mount has in common: whatever happens, the kernel gets an answer.

An exception that escaped to pyfuse3 would end the mount, and a request without an answer would leave a program
waiting that cannot even be killed. So everything becomes an errno here.
"""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast

import pyfuse3

import flipcall
from gofer.fuse.connection import Connection

log = logging.getLogger("gofer.mount")

M = TypeVar("M", bound=Callable[..., Coroutine[Any, Any, Any]])


class Connected(Protocol):
    """Whose methods handlers are."""

    connection: Connection


def retried(method: M) -> M:
    """An operation that only looks: when the gofer turns out to have been restarted, it is asked again."""
    return _answered(method, tries=2)


def once(method: M) -> M:
    """An operation that changes something: a gofer that died may have done it or not, so that EIO it is."""
    return _answered(method, tries=1)


def _answered(method: M, tries: int) -> M:
    @functools.wraps(method)
    async def run(self: Connected, *args: Any) -> Any:
        for left in range(tries - 1, -1, -1):
            try:
                return await method(self, *args)
            except pyfuse3.FUSEError:
                raise
            except Exception as error:
                if not self.connection.is_lost(error):
                    raise pyfuse3.FUSEError(_errno(error)) from None
                log.debug("%s: %s", method.__name__, error)
                self.connection.lost()
                if not left:
                    raise pyfuse3.FUSEError(errno.EIO) from None
        raise AssertionError("unreachable: the last try returns or raises")

    return cast(M, run)


def _errno(error: Exception) -> int:
    if isinstance(error, OSError) and error.errno:
        # ENOSYS would tell the kernel never to ask for such a thing again.
        return errno.EOPNOTSUPP if error.errno == errno.ENOSYS else error.errno
    if not isinstance(error, flipcall.DeadlineExceeded):
        log.error("unexpected", exc_info=error)
    return errno.EIO
