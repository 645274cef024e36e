"""A running gofer: an exported tree behind a flipcall server."""

from __future__ import annotations

import os
import sys
from typing import Literal

import flipcall
from examples.gofer.export import DEFAULT_MAX_FIDS, Export, raise_descriptor_limit
from examples.gofer.protocol import WINDOW
from examples.gofer.session import Session

Transports = Literal["both", "window", "socket"]

_TRANSPORTS: dict[Transports, tuple[str, ...]] = {
    "both": ("window", "socket"),
    "window": ("window",),
    "socket": ("socket",),
}


def make_server(
    export: Export, path: str, *, transport: Transports = "both", stop_with_parent: bool = False
) -> flipcall.Server:
    """A server, not yet started: one Session per client, which closes its FIDs when the client is gone."""

    def session(_peer: flipcall.Peer) -> Session:
        return Session(export)

    return flipcall.Server(
        session,
        path,
        window_max=WINDOW,
        transports=_TRANSPORTS[transport],
        stop_with_parent=stop_with_parent,
    )


def serve(
    directory: str,
    path: str,
    *,
    read_only: bool = False,
    transport: Transports = "both",
    max_fids: int = DEFAULT_MAX_FIDS,
    stop_with_parent: bool = False,
) -> None:
    """Serve `directory` on the socket `path` until SIGTERM or SIGINT; says so on stdout once it is ready.

    For a process of its own: it sets the process's umask and its limit of descriptors.
    """
    os.umask(0)  # a client's mode is what the file gets, as it is for the client's own creat()
    # Half a client's worth stays free at the least, for sockets, windows and the next session.
    limit = min(max_fids, raise_descriptor_limit() // 2)
    export = Export(directory, read_only=read_only, max_fids=limit)
    try:
        server = make_server(export, path, transport=transport, stop_with_parent=stop_with_parent)
        with server:
            access = "read-only" if read_only else "read-write"
            print(f"gofer: serving {directory} {access} on {path}", flush=True)
            server.serve_forever()
    finally:
        export.close()
        sys.stdout.flush()
