"""A running gofer: an exported tree behind a flipcall server."""

from __future__ import annotations

import signal
from typing import Literal

import flipcall
from gofer.confine import Confinement, User, confine
from gofer.export import DEFAULT_MAX_FIDS, Export, raise_descriptor_limit
from gofer.ids import Ids
from gofer.janitor import Janitor
from gofer.protocol import WINDOW
from gofer.session import Session

DEFAULT_MAX_CHANNELS = 256
"""Of all clients together: a thread, a window and some descriptors each."""

MAX_CHANNELS_PER_CLIENT = 64
"""Of one client process, that one may not have them all."""

Transports = Literal["both", "window", "socket"]

_TRANSPORTS: dict[Transports, tuple[str, ...]] = {
    "both": ("window", "socket"),
    "window": ("window",),
    "socket": ("socket",),
}


class GoferServer(flipcall.Server):
    """A flipcall server of an exported tree: one Session per client, which ends with the client."""

    def __init__(
        self,
        export: Export,
        path: str,
        *,
        transport: Transports = "both",
        max_channels: int = DEFAULT_MAX_CHANNELS,
        stop_with_parent: bool = False,
    ) -> None:
        def session(_peer: flipcall.Peer) -> Session:
            return Session(export)

        super().__init__(
            session,
            path,
            window_max=WINDOW,
            message_max=WINDOW,
            transports=_TRANSPORTS[transport],
            max_channels=max_channels,
            max_channels_per_client=min(max_channels, MAX_CHANNELS_PER_CLIENT),
            stop_with_parent=stop_with_parent,
        )
        self.announcement: str | None = None
        """For stdout, once clients can connect: its first line tells whoever started this process."""

    def start(self) -> None:
        """As Server.start, and say so."""
        super().start()
        if self.announcement is not None:
            print(self.announcement, flush=True)


def serve(
    directory: str,
    path: str,
    *,
    read_only: bool = False,
    transport: Transports = "both",
    max_fids: int = DEFAULT_MAX_FIDS,
    max_channels: int = DEFAULT_MAX_CHANNELS,
    ids: Ids | None = None,
    donate: bool = False,
    sockets: bool = False,
    confinement: Confinement = Confinement.FULL,
    user: User | None = None,
    stop_with_parent: bool = False,
) -> None:
    """Serve `directory` on the socket `path` until SIGTERM or SIGINT; says so on stdout once it is ready, and
    what is enforced.

    For a process of its own: it confines itself for good, and sets its limit of descriptors and its signal
    handlers. New files have the mode a client asks for, less this process's umask: the operator says what may
    be world-writable. Raises OSError and flipcall.FlipcallError when the tree or the socket cannot be had, or
    the process not be confined as asked.
    """
    # Half of them stay free at the least: for sockets, windows and the next session.
    limit = min(max_fids, raise_descriptor_limit() // 2)
    export = Export(directory, read_only=read_only, max_fids=limit, ids=ids, donate=donate, sockets=sockets)
    try:
        access = "read-only" if read_only else "read-write"
        server = GoferServer(
            export,
            path,
            transport=transport,
            max_channels=max_channels,
            stop_with_parent=stop_with_parent,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.request_stop())
        server.listen()
        janitor = Janitor(path)
        report = confine(export, confinement, user)
        server.announcement = "\n".join(
            [
                f"gofer: serving {directory} {access} on {path}",
                *(f"gofer: {what}: {how}" for what, how in report),
            ]
        )
        server.serve_forever()
        janitor.finish()
    finally:
        export.close()
