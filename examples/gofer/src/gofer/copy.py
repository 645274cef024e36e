"""Copying a file out of the gofer's tree or into it, a window at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from gofer.client import GoferClient

REMOTE = "remote:"
"""What a path in the gofer's tree begins with where both kinds may stand."""

Progress = Callable[[int], None]
"""Told how many bytes more have been copied."""


def is_remote(path: str) -> bool:
    """Whether a path of `cp` is in the gofer's tree."""
    return path.startswith(REMOTE)


def remote_path(path: str) -> str:
    """The path in the tree; `remote:` alone is its root."""
    return path[len(REMOTE) :] or "/"


def download(client: GoferClient, source: str, target: str, progress: Progress) -> None:
    """Copy a file of the tree to a local one, which is made or replaced."""
    with client.open_raw(source) as remote:
        mode = stat.S_IMODE(client.gofer.stat(remote.fid).mode)
        created = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode & 0o777)
        with open(created, "wb", buffering=0) as local:
            offset = 0
            while data := remote.pread(client.max_read, offset):
                _write_all(local.write, data)
                offset += len(data)
                progress(len(data))


def upload(client: GoferClient, source: str, target: str, progress: Progress) -> None:
    """Copy a local file to one of the tree, which is made or replaced."""
    with open(source, "rb", buffering=0) as local:
        mode = stat.S_IMODE(os.fstat(local.fileno()).st_mode)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with client.open_raw(target, flags, mode & 0o777) as remote:
            for data in _pieces(local.fileno(), client.max_write):
                remote.write_all(data)
                progress(len(data))


def _pieces(fd: int, size: int) -> Iterator[memoryview]:
    """The file, in pieces of one buffer."""
    buffer = memoryview(bytearray(size))
    while count := os.readv(fd, [buffer]):
        yield buffer[:count]


def _write_all(write: Callable[[memoryview], int | None], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[write(view) or 0 :]
