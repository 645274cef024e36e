"""A mounted tree: the connection, the root, and the FIDs that are to be given back."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal, NoReturn, TypeVar, cast

import flipcall
from gofer import names
from gofer.protocol import WINDOW, Gofer
from gofer.resolve import Resolved, Resolver

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Transport = Literal["window", "socket"]
T = TypeVar("T", bound="MountedTree")

_OVERHEAD = 256
"""Bytes of a message that are not bulk data: headers, and a read's or write's numbers."""

_RELEASE_BATCH = 64
"""FIDs given back in one call, or fewer if the server has few; until then each costs it a descriptor."""


class MountedTree:
    """A session of a gofer. `gofer` is the typed service and `root` the root's inode, for those who speak FIDs
    themselves. Thread-safe; a context manager.

    Raises what flipcall.connect raises, and OSError when the gofer cannot mount.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        transport: Transport = "window",
        window_size: int = WINDOW,
        timeout: float | None = 30.0,
        **options: Any,
    ) -> None:
        """`timeout`: seconds a call, None for ever; `options` go to flipcall.connect (max_channels, ...)."""
        self.gofer: Gofer = self._connect(
            os.fspath(path), transport=transport, window_size=window_size, timeout=timeout, **options
        )
        try:
            self.limits = self.gofer.mount()
        except BaseException:
            self.close()
            raise
        self.root = self.limits.root
        bulk = window_size - _OVERHEAD
        self.max_read = min(self.limits.max_read, bulk)
        self.max_write = min(self.limits.max_write, bulk)
        self._listing = min(bulk, 1 << 18)
        walk_max = max(1, min(self.limits.max_names, bulk // 320))  # no name and no Inode is longer
        self._resolver = Resolver(self.gofer, self.root, walk_max, self.release)
        # A deque (its methods are atomic) and no lock: a file may be finalised, and so closed, at any moment.
        self._released: deque[int] = deque()
        self._batch = min(_RELEASE_BATCH, max(1, self.limits.max_fids // 8))

    def _connect(self, path: str, **options: Any) -> Gofer:
        return flipcall.connect(Gofer, path, **options)

    def read_into(self, buffer: memoryview, fid: int, offset: int, length: int) -> int:
        """The operation `read` with its answer in `buffer`; how many bytes that was."""
        return flipcall.into(buffer, self.gofer.read, fid, offset, length)

    def close(self) -> None:
        """End the session; the gofer closes every FID of it. Idempotent."""
        cast(Any, self.gofer).close()  # connect() returns a client, typed as the service it stands for

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- from paths to FIDs --------------------------------------------------------------------------

    def fid(self, path: Path, *, follow_symlinks: bool = True) -> int:
        """A control FID of `path`, for calls on `gofer`; the caller gives it back, or the end of the session
        does.
        """
        with self._at(path, follow_symlinks) as found:
            if found.inode is self.root:  # which is the client's own: a FID more of it
                return self.gofer.mount().root.fid
            return found.take()

    @contextlib.contextmanager
    def _at(self, path: Path, follow: bool = True) -> Iterator[Resolved]:
        """What a path leads to, for a call on its FID; errors say which path they are about."""
        with named(path), self._resolver.resolve(names.encode(path), follow=follow) as found:
            yield found

    @contextlib.contextmanager
    def _parent(self, path: Path, nameless: int) -> Iterator[tuple[Resolved, bytes]]:
        with named(path):
            found, name = self._resolver.parent(names.encode(path), nameless)
            with found:
                yield found, name

    # ---- giving FIDs back ----------------------------------------------------------------------------

    def release(self, fids: list[int]) -> None:
        """Give FIDs back some time soon, in one call for many, as lisafs's clients do.

        For control FIDs, and open FIDs nothing was written by. What waits for a file's last FID to go (its space
        on the disk, once it has no name) waits for this; removing a name gives everything back first.
        """
        self._released.extend(fids)
        while len(self._released) >= self._batch:  # a walk may give back more than one call takes
            self.close_fids([])

    def _close_fid(self, fid: int) -> None:
        self.close_fids([fid])

    def close_fids(self, fids: list[int]) -> None:
        """Close these now, and what else is due with them."""
        try:
            while len(fids) < 4 * _RELEASE_BATCH:
                fids.append(self._released.popleft())
        except IndexError:
            pass
        # A client that is closed has given everything back already.
        with contextlib.suppress(flipcall.ClosedError):
            if fids:
                self.gofer.close_fids(fids)


def explain(path: Path, error: OSError) -> NoReturn:
    """Raise a call's error again, saying which path it is about, as `os` does; the server knows no paths, and
    sends no names.
    """
    if isinstance(error, flipcall.FlipcallError) or error.errno is None or error.filename is not None:
        raise error
    raise OSError(error.errno, os.strerror(error.errno), names.decode(names.encode(path))) from error


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors of calls in the block say which path they are about."""
    try:
        yield
    except OSError as error:
        explain(path, error)
