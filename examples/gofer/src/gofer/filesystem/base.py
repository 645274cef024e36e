"""What a GoferFileSystem is before it has operations: a connection in each process, and paths."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast
from urllib.parse import unquote

from fsspec import AbstractFileSystem
from fsspec.utils import stringify_path

import flipcall
from gofer.client import GoferClient, Transport

F = TypeVar("F", bound=Callable[..., Any])

_ENCODED_SLASH = "%2f"


def connected(method: F) -> F:
    """A method that asks the gofer: when the connection turns out to be over, the next call makes another."""

    @functools.wraps(method)
    def run(self: ConnectedFileSystem, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except (flipcall.ClosedError, flipcall.PeerError):
            self.close()
            raise

    return cast(F, run)


class ConnectedFileSystem(AbstractFileSystem):
    """A gofer, as an instance of fsspec's.

    Connects when first used, and again in a process that was forked or that unpickled it. Any thread may use it.
    """

    protocol = "gofer"
    root_marker = "/"

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        auto_mkdir: bool = False,
        timeout: float | None = 30.0,
        transport: Transport = "window",
        **options: Any,
    ) -> None:
        """`auto_mkdir`: make missing parents of a file that is written. `timeout`: seconds a call may take."""
        super().__init__(**options)
        if not socket:
            raise ValueError("which gofer? Give socket=..., or gofer://%2Fpath%2Fto%2Fsocket/...")
        self.socket = os.fspath(socket)
        self.auto_mkdir = auto_mkdir
        self._timeout = timeout
        self._transport: Transport = transport
        self._client: GoferClient | None = None
        self._lock = threading.Lock()
        self._pid_of_client = os.getpid()

    @property
    def fsid(self) -> str:
        """What tells this file system from others."""
        return f"gofer-{self.socket}"

    @property
    def client(self) -> GoferClient:
        """The connection of this process."""
        if self._pid_of_client != os.getpid():
            self._forget()  # inherited by fork: the connection is the parent's, and so perhaps is a held lock
        if self._client is None:
            with self._lock:
                if self._client is None:
                    self._client = GoferClient(self.socket, transport=self._transport, timeout=self._timeout)
        return self._client

    def close(self) -> None:
        """End the connection; the next use makes another."""
        client, self._client = self._client, None
        if client is not None and self._pid_of_client == os.getpid():
            client.close()

    def _forget(self) -> None:
        self._client = None
        self._lock = threading.Lock()
        self._pid_of_client = os.getpid()

    # ---- paths ---------------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """The path in the tree, absolute and without a trailing `/`."""
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text: str = stringify_path(path)
        if text.startswith("gofer://"):
            text = text.removeprefix("gofer://")
            authority, _, rest = text.partition("/")
            if authority.lower().startswith(_ENCODED_SLASH):
                text = rest
        return "/" + text.strip("/") if text.strip("/") else "/"

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        authority = stringify_path(path).removeprefix("gofer://").partition("/")[0]
        return {"socket": unquote(authority)} if authority.lower().startswith(_ENCODED_SLASH) else {}
