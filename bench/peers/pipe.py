"""multiprocessing.Pipe: what the standard library offers, with the codec of the others instead of pickle."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from bench.peers.base import Address, Call, Life, Peer


class Pipe(Peer):
    """One duplex pipe, which is a socket pair, and one client."""

    def ends(self, stack: ExitStack, clients: int, size: int) -> tuple[list[int], list[int]]:
        pairs = [socket.socketpair() for _ in range(clients)]
        for pair in pairs:
            for end in pair:
                stack.callback(end.close)
        return [ours.fileno() for ours, _ in pairs], [theirs.fileno() for _, theirs in pairs]

    def serve(self, address: Address, life: Life) -> None:
        answer = address.codec.answer

        def loop(pipe: Connection) -> None:
            while True:
                pipe.send_bytes(answer(pipe.recv_bytes()))

        # In a thread that ends with the process: to ask before each call whether to end would cost the call.
        threading.Thread(target=loop, args=(Connection(address.fds[0]),), daemon=True).start()
        life.ready()
        life.wait()

    @contextmanager
    def connect(self, address: Address) -> Iterator[Call]:
        pipe = Connection(os.dup(address.fds[0]))
        encode, decode = address.codec.encode, address.codec.decode

        def call(content: Any) -> Any:
            pipe.send_bytes(encode(content))
            return decode(pipe.recv_bytes())

        with pipe:
            yield call
