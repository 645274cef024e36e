"""flipcall itself, over the window and over its Unix socket: the same server, the same client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import flipcall
from bench.echo import Bulk, BulkServer, Content, Echo, EchoServer, FeedServer, StoreServer
from bench.peers.base import Address, Call, Life, Peer
from bench.policies import policy_named

WINDOW_LEAST = 65536  # the library's default
HEADROOM = 4096  # for headers and alignment
CHANNELS = 4096
SERVICES: dict[Content, Callable[[], flipcall.Service]] = {
    "item": EchoServer,
    "bytes": BulkServer,
    "items": FeedServer,
    "store": StoreServer,
}
TRANSPORTS: dict[str, Literal["window", "socket"]] = {"flipcall": "window", "socket": "socket"}


class Window(Peer):
    """Over a window that the messages fit into."""

    transport: Literal["window", "socket"] = "window"
    roomy = True

    def serve(self, address: Address, life: Life) -> None:
        service = SERVICES[address.content]()
        policy = policy_named(address.policy)
        with flipcall.Server(
            service, address.path, policy=policy, max_channels=CHANNELS, workers=address.workers
        ):
            life.ready()
            life.wait()

    @contextmanager
    def connect(self, address: Address) -> Iterator[Call]:
        service: type[Echo] | type[Bulk] = Bulk if address.content == "bytes" else Echo
        policy = policy_named(address.policy)
        with flipcall.connect(
            service,
            address.path,
            transport=self.transport,
            policy=policy,
            window_size=max(WINDOW_LEAST, address.size + HEADROOM if self.roomy else 0),
        ) as client:
            yield client.echo


class Split(Window):
    """Over the window that connect() takes by itself: larger messages go in parts."""

    roomy = False


class Socket(Window):
    """The same over the Unix socket."""

    transport = "socket"
