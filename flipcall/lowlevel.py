"""The door below calls: endpoints, packet windows and what they are made of."""

from .allocator import MemfdAllocator, WindowAllocator
from .cpus import spinning_allowed
from .endpoint import Endpoint
from .errors import (
    WindowForeignError,
    WindowInUseError,
    WindowTooLargeError,
    WindowTooSmallError,
    WindowTruncatedError,
    WindowUnsealedError,
)
from .fds import recv_fds, send_fds
from .liveness import Liveness, Peer
from .named import NamedAllocator, NamedWindow
from .notify import NotifyLink
from .outcome import Side, State, Stats
from .policy import WaitPolicy
from .window import PacketWindow

__all__ = [
    "Endpoint",
    "Liveness",
    "MemfdAllocator",
    "NamedAllocator",
    "NamedWindow",
    "NotifyLink",
    "PacketWindow",
    "Peer",
    "Side",
    "State",
    "Stats",
    "WaitPolicy",
    "WindowAllocator",
    "WindowForeignError",
    "WindowInUseError",
    "WindowTooLargeError",
    "WindowTooSmallError",
    "WindowTruncatedError",
    "WindowUnsealedError",
    "recv_fds",
    "send_fds",
    "spinning_allowed",
]
