"""A whole tree, through the gofer: walked, read and digested."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from gofer.client import GoferClient
from gofer.protocol import Dent, Stat


class Found(NamedTuple):
    """One object of a tree."""

    path: bytes
    """Below the top, without a leading `/`."""
    stat: Stat
    depth: int
    last: bool
    """Nothing follows it in its directory."""

    @property
    def name(self) -> bytes:
        """Its own name."""
        return self.path.rpartition(b"/")[2]


def children(client: GoferClient, path: bytes) -> list[tuple[Dent, Stat]]:
    """A directory's entries by name, without those that went while it was listed."""
    entries = sorted(client.scandir(path), key=lambda entry: entry.name)
    return [(entry, entry.stat) for entry in entries if entry.stat is not None]


Unreadable = Callable[[bytes, OSError], None]
"""Told of a directory that cannot be listed, by its path from the root of the tree."""


def walk(
    client: GoferClient,
    top: bytes = b"/",
    *,
    hidden: bool = True,
    unreadable: Unreadable | None = None,
) -> Iterator[Found]:
    """Everything below `top`, depth first, in the order of names. Symbolic links are found, not followed.

    Without `hidden`, nothing whose name begins with a dot. A directory that cannot be listed is told to
    `unreadable` and passed over, or an OSError where there is no such function.
    """

    def below(path: bytes, depth: int) -> list[Found]:
        try:
            return _below(client, top, path, depth, hidden)
        except OSError as error:
            if unreadable is None:
                raise
            unreadable(os.path.join(top, path) if path else top, error)
            return []

    # A stack of what is still to be shown, rather than recursion: a tree may be deeper than Python's.
    todo = below(b"", 0)
    while todo:
        found = todo.pop()
        yield found
        if stat.S_ISDIR(found.stat.mode):
            todo.extend(below(found.path, found.depth + 1))


def _below(client: GoferClient, top: bytes, path: bytes, depth: int, hidden: bool) -> list[Found]:
    listed = children(client, os.path.join(top, path))
    if not hidden:
        listed = [one for one in listed if not one[0].name.startswith(b".")]
    prefix = path + b"/" if path else b""
    found = [Found(prefix + dent.name, info, depth, False) for dent, info in listed]
    if found:
        found[-1] = found[-1]._replace(last=True)
    return found[::-1]


class Digested(NamedTuple):
    """What reading a file through the gofer gave."""

    sha256: str
    size: int


def digest(client: GoferClient, path: bytes) -> Digested:
    """Read a file to its end."""
    sha = hashlib.sha256()
    size = 0
    with client.open_raw(path) as file:
        while data := file.pread(client.max_read, size):
            sha.update(data)
            size += len(data)
            if len(data) < client.max_read:
                break  # pread gives fewer only at the end
    return Digested(sha.hexdigest(), size)
