"""flipcall: typed calls between two processes on one machine, in microseconds.

The everyday door. flipcall.lowlevel has endpoints and windows, flipcall.testing what tests need.
"""

from .client import connect, with_options
from .context import Context, context
from .errors import (
    BusyError,
    CallError,
    ClosedError,
    DeadlineExceeded,
    FlipcallError,
    ForkedError,
    MisuseError,
    PeerDiedError,
    PeerError,
    ProtocolError,
    RemoteError,
    UnsupportedError,
    WindowError,
)
from .failure import register_error
from .fd import Fd
from .filled import filled
from .liveness import Peer
from .policy import WaitPolicy
from .server import Server, serve
from .service import Service
from .status import Status
from .views import into, view

__all__ = [
    "BusyError",
    "CallError",
    "ClosedError",
    "Context",
    "DeadlineExceeded",
    "Fd",
    "FlipcallError",
    "ForkedError",
    "MisuseError",
    "Peer",
    "PeerDiedError",
    "PeerError",
    "ProtocolError",
    "RemoteError",
    "Server",
    "Service",
    "Status",
    "UnsupportedError",
    "WaitPolicy",
    "WindowError",
    "connect",
    "context",
    "filled",
    "into",
    "register_error",
    "serve",
    "view",
    "with_options",
]
