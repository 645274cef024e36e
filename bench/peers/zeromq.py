"""ZeroMQ over ipc: REQ and REP, the pattern of its guide's first page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.peers.base import Address, Call, Life, Peer

TICK_MS = 200  # how long a server that nobody asks sleeps before it looks whether to end


class ZeroMq(Peer):
    """pyzmq, blocking, no copies avoided: messages are small."""

    needs = "zmq"

    def serve(self, address: Address, life: Life) -> None:
        zmq = self.package()

        answer, ended = address.codec.answer, life.ended()
        with zmq.Context() as context, context.socket(zmq.REP) as server:
            server.rcvtimeo = TICK_MS
            server.bind(f"ipc://{address.path}")
            life.ready()
            while not ended():
                try:
                    request = server.recv()
                except zmq.Again:
                    continue
                server.send(answer(request))

    @contextmanager
    def connect(self, address: Address) -> Iterator[Call]:
        zmq = self.package()

        encode, decode = address.codec.encode, address.codec.decode
        with zmq.Context() as context, context.socket(zmq.REQ) as client:
            client.linger = 0
            client.connect(f"ipc://{address.path}")

            def call(content: Any) -> Any:
                client.send(encode(content))
                return decode(client.recv())

            yield call
