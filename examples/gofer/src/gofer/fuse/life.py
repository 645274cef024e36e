"""The life of a mount: from connecting to the gofer to the empty directory it leaves behind.

pyfuse3 keeps its session in globals: one mount a process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable

import pyfuse3
import trio

import flipcall
from gofer.client import GoferClient
from gofer.fuse.connection import Connection
from gofer.fuse.operations import GoferOperations

_TIDY_S = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def mount(
    path: str,
    mountpoint: str,
    *,
    connect: Callable[[str], GoferClient] = GoferClient,
    cache: float = 1.0,
    allow_other: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Mount the tree of the gofer at socket `path` on `mountpoint`, until it is unmounted or a signal comes.

    `cache`: seconds names and attributes are kept. `ready` is called once programs can use the mount. Raises
    OSError and flipcall.FlipcallError when the gofer or the mount cannot be had.
    """
    if not os.path.isdir(mountpoint):
        raise NotADirectoryError(20, os.strerror(20), mountpoint)
    connection = Connection(path, connect)
    try:
        options = {"default_permissions", "fsname=gofer", "subtype=gofer"}
        if connection.limits.read_only:
            options.add("ro")
        if allow_other:
            options.add("allow_other")
        try:
            pyfuse3.init(GoferOperations(connection, cache), mountpoint, options)
        except RuntimeError as error:  # libfuse has said why on stderr
            raise OSError(f"cannot mount on {mountpoint}: {error}") from error
        try:
            trio.run(_until_over, connection, ready)
        finally:
            pyfuse3.close(unmount=True)
    finally:
        connection.close()


async def _until_over(connection: Connection, ready: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            nursery.start_soon(_stop_on, signals)
            nursery.start_soon(_tidy_up, connection)
            ready()
            await pyfuse3.main(min_tasks=2)
            nursery.cancel_scope.cancel()


async def _stop_on(signals: AsyncIterator[int]) -> None:
    async for _ in signals:
        pyfuse3.terminate()
        return


async def _tidy_up(connection: Connection) -> None:
    """FIDs are given back many at a time; but when nobody uses the mount, the last few are, too."""
    while True:
        await trio.sleep(_TIDY_S)
        try:
            connection.tidy()
        except (flipcall.FlipcallError, OSError):
            pass  # the next program that asks for something is told
