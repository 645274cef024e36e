"""A path turned into FIDs. Symbolic links and `..` are followed here, in the client, and nowhere else.

The server walks plain names and stops at a symbolic link. The client reads the link, and walks again from
where it points, with the gofer's root as `/` and as its own parent, the way a process in a chroot sees it. So
the server needs no notion of "inside" beyond the descriptor it starts from, and whatever a link says, the
client can only end up at something it was allowed to walk to.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable

from gofer.protocol import Gofer, Inode, Place, Stop

_MAX_LINKS = 40
"""As Linux: more links than this in one path is a loop (ELOOP)."""

Release = Callable[[list[int]], None]
"""How FIDs are given back: the client collects them and closes many at a time."""


class Resolved:
    """Where a path led: the inodes on the way, which `with` gives back at the end.

    Exactly one of two cases: the path exists (`inode` is its object), or all of it does but the last name
    (`missing`).
    """

    __slots__ = ("_release", "_root", "_stack", "missing")

    def __init__(self, root: Inode, release: Release) -> None:
        self._root = root
        self._stack: list[Inode] = []
        self._release = release
        self.missing: bytes | None = None

    @property
    def top(self) -> Inode:
        """The deepest inode that exists; the directory that would hold the missing name."""
        return self._stack[-1] if self._stack else self._root

    @property
    def inode(self) -> Inode:
        """The object the path names; FileNotFoundError when its last name is missing."""
        if self.missing is not None:
            raise _error(errno.ENOENT)
        return self.top

    @property
    def place(self) -> Place:
        """Directory and name, for a path whose last name is missing."""
        assert self.missing is not None
        return Place(self.top.fid, self.missing)

    def take(self) -> int:
        """The FID of `inode`, the caller's from now on and not given back with the others. Not for the root."""
        fid = self.inode.fid
        self._stack.pop()
        return fid

    def __enter__(self) -> Resolved:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cut(0)

    def push(self, inodes: list[Inode]) -> None:
        """Deeper by these."""
        self._stack.extend(inodes)

    def pop(self) -> None:
        """Up by one; the root is its own parent."""
        self.cut(max(len(self._stack) - 1, 0))

    def cut(self, depth: int) -> None:
        """Back to `depth` names below the root."""
        gone = self._stack[depth:]
        del self._stack[depth:]
        if gone:
            self._release([inode.fid for inode in gone])


class Resolver:
    """Resolves paths for one mounted session. Thread-safe: it keeps nothing between calls."""

    def __init__(self, gofer: Gofer, root: Inode, max_names: int, release: Release) -> None:
        self._gofer = gofer
        self._root = root
        self._max_names = max_names
        self._release = release

    def resolve(self, path: bytes, *, follow: bool = True) -> Resolved:
        """Walk to `path`; a symbolic link in the last place is followed if `follow` says so, or a `/` comes
        after it.

        One round trip for a path without links and `..`.

        Raises FileNotFoundError (a name before the last is missing, or the path is empty),
        NotADirectoryError, OSError ELOOP, and what the server answers.
        """
        if not path:
            raise _error(errno.ENOENT)
        found = Resolved(self._root, self._release)
        try:
            self._walk(found, path, follow)
        except BaseException:
            found.cut(0)
            raise
        return found

    def plain(self, path: bytes) -> list[bytes]:
        """The names of a path that one walk can settle; none when it has `..`, ends in `/` or is too long."""
        found = [name for name in path.split(b"/") if name not in (b"", b".")]
        if b".." in found or path.endswith((b"/", b"/.")) or len(found) > self._max_names:
            return []
        return found

    def parent(self, path: bytes, nameless: int) -> tuple[Resolved, bytes]:
        """The directory a path's last name is in, and that name: for making, removing and renaming.

        OSError `nameless` for a path that ends in `.` or `..`, and for the root, which have no name to change.
        """
        head, _, name = path.rstrip(b"/").rpartition(b"/")
        if not path:
            raise _error(errno.ENOENT)
        found = self.resolve(head + b"/.")
        if found.missing is not None or name in (b"", b".", b".."):
            missing = found.missing is not None
            found.cut(0)
            raise _error(errno.ENOENT if missing else nameless)
        return found, name

    def _walk(self, found: Resolved, path: bytes, follow: bool) -> None:
        todo = _components(path)
        links = 0
        while todo:
            if todo[0] in (b".", b".."):
                # "file/." and "file/.." are errors in Linux too, not ways to say "file" and its parent.
                if not stat.S_ISDIR(found.top.stat.mode):
                    raise _error(errno.ENOTDIR)
                if todo.popleft() == b"..":
                    found.pop()
                continue
            names = self._take(todo)
            walked = self._gofer.walk(found.top.fid, names)
            found.push(walked.inodes)
            done = len(walked.inodes)
            if walked.stop is Stop.MISSING:
                if names[done + 1 :] or any(name != b"." for name in todo):
                    raise _error(errno.ENOENT)
                # What is left can only be "new/": a name that is yet to be made, as a directory.
                found.missing = names[done]
                return
            if walked.stop is Stop.SYMLINK:
                todo.extendleft(reversed(names[done:]))
                if not todo and not follow:
                    return
                links += 1
                if links > _MAX_LINKS:
                    raise _error(errno.ELOOP)
                target = self._gofer.readlink(found.top.fid)
                found.pop()
                if target.startswith(b"/"):
                    found.cut(0)
                todo.extendleft(reversed(_components(target)))

    def _take(self, todo: deque[bytes]) -> list[bytes]:
        """The plain names at the front of `todo`, as many as one walk may carry."""
        names: list[bytes] = []
        while todo and todo[0] not in (b".", b"..") and len(names) < self._max_names:
            names.append(todo.popleft())
        return names


def _components(path: bytes) -> deque[bytes]:
    """The names of a path. A trailing `/` stands for a `.`: the name before it must be a directory."""
    names = deque(name for name in path.split(b"/") if name not in (b"", b"."))
    if path.endswith((b"/", b"/.")) and names:
        names.append(b".")
    return names


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
