"""On what terms a server serves: what it is given beside what and where, for both kinds and every worker."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from .liveness import Peer
from .policy import WaitPolicy


class Terms(NamedTuple):
    """See flipcall.Server. interceptors: of the server's kind.

    alone: no other process serves at this socket. Else the switch notify, by which a client has one process as its
    server, is not for its channels, which may be several processes'.
    """

    policy: WaitPolicy
    switch: str | None
    window_max: int
    message_max: int
    max_channels: int
    max_channels_per_client: int | None
    max_calls: int | None
    transports: tuple[str, ...]
    authorize: Callable[[Peer], bool]
    tracebacks: bool
    statistics: bool
    interceptors: tuple[Any, ...]
    alone: bool = True

    def of_a_worker(self) -> "Terms":
        """Those of one of several processes; how many channels a client has only the one before them knows."""
        return self._replace(max_channels_per_client=None, alone=False)


def same_user(peer: Peer) -> bool:
    """The default of Server(authorize=): the server's own user, and root."""
    return peer.uid in (0, os.geteuid())
