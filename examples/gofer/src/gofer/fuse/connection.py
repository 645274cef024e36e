"""The gofer behind a mount: asked when it is there, EIO when it is not, connected to again when it is back.

A gofer that was restarted knows none of the FIDs of the one before, and gives the same numbers out for other
objects. So every FID is worth something only in the *epoch* it was got in; who holds one compares before using it.

      CONNECTED ── a call ends with a broken connection: lost(), epoch + 1 ──► LOST
          ▲                                                                    │
          └───────────────────── the next call finds the gofer ────────────────┘   (it does not: EIO, at once)
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

import flipcall
from gofer.client import GoferClient
from gofer.protocol import Gofer, Inode, Mounted

log = logging.getLogger("gofer.mount")


class Connection:
    """One gofer at a time. For one thread; a `Gofer` it gave out may be called by others, too."""

    def __init__(self, path: str, connect: Callable[[str], GoferClient]) -> None:
        """Connects to the gofer's socket `path`; raises what `connect` raises."""
        self._path = path
        self._connect = connect
        self._client: GoferClient | None = connect(path)
        self.epoch = 1

    @property
    def client(self) -> GoferClient:
        """The gofer that is there now. OSError EIO when none is."""
        return self._client or self._again()

    @property
    def gofer(self) -> Gofer:
        """Its operations."""
        return (self._client or self._again()).gofer

    @property
    def root(self) -> Inode:
        """The tree's root and a FID of it, which is never given back."""
        return self.client.root

    @property
    def limits(self) -> Mounted:
        """What the gofer said when it was mounted."""
        return self.client.limits

    def is_lost(self, error: Exception) -> bool:
        """Whether a call's error says that this gofer is gone, rather than answering.

        A call that needs another channel connects, and an errno of that looks like one of a file.
        """
        if isinstance(error, flipcall.CallError):
            return error.status is flipcall.Status.UNAUTHENTICATED  # a new server, which has no such session
        if isinstance(error, OSError):
            if error.errno == errno.ENOENT:
                return not os.path.lexists(self._path)
            return error.errno == errno.ECONNREFUSED
        return isinstance(error, (flipcall.ClosedError, flipcall.PeerError))

    def lost(self) -> None:
        """A call found the connection broken: forget it, and every FID with it."""
        client, self._client = self._client, None
        if client is not None:
            # Here and not when connecting again: between the two, no FID of before may look valid.
            self.epoch += 1
            client.close()

    def release(self, fids: list[int], epoch: int) -> None:
        """Give control FIDs back, some time soon; those of another epoch are gone already."""
        if epoch == self.epoch and self._client is not None:
            self._client.release(fids)

    def tidy(self) -> None:
        """Give back what is due, however little it is."""
        if self._client is not None:
            self._client.close_fids([])

    def close(self) -> None:
        """Over for good."""
        self.lost()

    def _again(self) -> GoferClient:
        try:
            self._client = client = self._connect(self._path)
        except (flipcall.FlipcallError, OSError) as error:
            # No socket, nobody behind it, refused: to the program that asked for a file, all the same.
            log.debug("%s: %s", self._path, error)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
        return client
