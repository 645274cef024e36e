"""Fd: a file descriptor, and with it the duty to close it. In a signature: one that is handed over.

Who owns what. Sending duplicates: the sender keeps its Fd, the receiver gets one of its own, and each closes its
own, in any order. An Fd that arrives is like a file just opened: whoever received it (a handler its argument, a
caller its result) closes it, keeps it, or detaches the number; nobody closes it behind its back when the call
ends, for it may have been stored. One that is dropped is closed when it is collected, with a ResourceWarning,
unless it has been sent, or returned by a handler: then it has done its work, and letting go of it is no mistake.

    def open(self, name: str) -> Fd:                       with os.fdopen(client.open("a").detach()) as file:
        return Fd(os.open(name, os.O_RDONLY))                  ...

Rejected: closing at the end of the call what the handler did not detach (it may have put the object into a list),
and handing ownership over with the message (a call can fail after its descriptors have gone).
"""

import os
import warnings
from types import TracebackType
from typing import NoReturn, Protocol

from .errors import MisuseError
from .fds import close_fds


class HasFileno(Protocol):
    """A file, a socket, …"""

    def fileno(self) -> int: ...


class Fd:
    """Owns one descriptor. One thread at a time; a context manager, which closes it."""

    __slots__ = ("__weakref__", "_fd", "_sent")

    def __init__(self, fileno: int) -> None:
        """Take `fileno` over: from now on it is this object's to close. Raises TypeError, ValueError for a
        number that can be none.
        """
        self._fd = -1
        self._sent = False
        if type(fileno) is not int:
            what = "Fd.dup() takes objects" if hasattr(fileno, "fileno") else type(fileno).__name__
            raise TypeError(f"Fd() takes over the number of a descriptor ({what})")
        if fileno < 0:
            raise ValueError(f"{fileno} is no descriptor")
        self._fd = fileno

    @classmethod
    def dup(cls, source: int | HasFileno) -> "Fd":
        """A duplicate of `source`, which keeps its own. Raises OSError (EBADF, EMFILE)."""
        return cls(os.dup(source if isinstance(source, int) else source.fileno()))

    def fileno(self) -> int:
        """The number, still this object's. Raises MisuseError once closed or detached."""
        if self._fd < 0:
            raise MisuseError("this Fd is closed, or was detached")
        return self._fd

    def detach(self) -> int:
        """The number, the caller's from now on. Raises MisuseError once closed or detached."""
        fd = self.fileno()
        self._fd = -1
        return fd

    def close(self) -> None:
        """Close it. Idempotent. Raises OSError as close(2) does; it is closed even so."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @property
    def closed(self) -> bool:
        """Whether it was closed or detached."""
        return self._fd < 0

    def mark_sent(self) -> None:
        """It has been sent, or returned to be sent: it may be dropped without closing it."""
        self._sent = True

    def __enter__(self) -> "Fd":
        self.fileno()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Fd is neither copied nor pickled, for both would close the same number: Fd.dup()")

    def __repr__(self) -> str:
        return f"Fd({self._fd})" if self._fd >= 0 else "Fd(closed)"

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) < 0:
            return
        try:
            if not self._sent:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:  # a warning may be an error
            close_fds([self.detach()])
