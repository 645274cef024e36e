"""The life of a mount: from connecting to the gofer to the empty directory it leaves behind.

pyfuse3 keeps its session in globals: one mount a process.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Iterator
from types import FrameType

import pyfuse3

import flipcall
from gofer.client import GoferClient
from gofer.fuse.connection import Connection
from gofer.fuse.loop import Loop
from gofer.fuse.operations import GoferOperations
from gofer.fuse.rows import answers

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
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # donated descriptors are as many as open files
    connection = Connection(path, connect)
    try:
        options = {"default_permissions", "fsname=gofer", "subtype=gofer"}
        if connection.limits.read_only:
            options.add("ro")
        if allow_other:
            options.add("allow_other")
        with Loop(lambda: _tidy_up(connection), _TIDY_S) as loop:
            operations = GoferOperations(connection, cache, loop.in_thread)
            try:
                with answers.added(operations, loop.start):
                    pyfuse3.init(operations, mountpoint, options)
            except RuntimeError as error:  # libfuse has said why on stderr
                raise OSError(f"cannot mount on {mountpoint}: {error}") from error
            try:
                with _signals_unmount():
                    ready()
                    loop.run(pyfuse3.main)
            finally:
                pyfuse3.close(unmount=True)
    finally:
        connection.close()


@contextlib.contextmanager
def _signals_unmount() -> Iterator[None]:
    """The first signal ends the mount in order; a second one, should the gofer hang, at once."""
    ending = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        if ending:
            raise SystemExit(128 + number)
        ending = True
        pyfuse3.terminate()

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tidy_up(connection: Connection) -> None:
    """FIDs are given back many at a time; but when nobody uses the mount, the last few are, too."""
    with contextlib.suppress(flipcall.FlipcallError, OSError):  # the next program that asks is told
        connection.tidy()
