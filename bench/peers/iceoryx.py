"""iceoryx2's request-response, polled without a pause on both sides: its quickest way.

Payloads are a ctypes structure of fixed size with the message inside, copied in with send_copy(): of the ways its
Python package offers, the quickest here (a Slice, which could have any length, took a fifth longer). It leaves an
empty directory in /tmp and one file in /dev/shm behind, which are for all its programs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.peers.base import Address, Call, Life, Peer
from bench.placement import UnavailableError

ROOM = 508
PATIENCE = 4096  # looks in vain between two questions whether to end


class Message(ctypes.Structure):
    """So many bytes of room; the first `length` count."""

    _fields_ = (("length", ctypes.c_uint32), ("body", ctypes.c_uint8 * ROOM))


BODY = Message.body.offset


class Iceoryx(Peer):
    """One service, by the name of the address's path."""

    needs = "iceoryx2"
    polls = True

    def serve(self, address: Address, life: Life) -> None:
        answer, ended = address.codec.answer, life.ended()
        _node, service = self._service(address)
        receive = service.server_builder().create().receive
        life.ready()
        idle = 0
        while True:
            request = receive()
            if request is not None:
                request.send_copy(_message(answer(_body(request))))
                idle = 0
                continue
            idle += 1
            if idle % PATIENCE == 0 and ended():
                return

    @contextmanager
    def connect(self, address: Address) -> Iterator[Call]:
        _node, service = self._service(address)
        send = service.client_builder().create().send_copy
        encode, decode = address.codec.encode, address.codec.decode

        def call(content: Any) -> Any:
            receive = send(_message(encode(content))).receive
            while (answer := receive()) is None:
                pass
            return decode(_body(answer))

        yield call

    def _service(self, address: Address) -> tuple[Any, Any]:
        """The node, which must outlive the service, and the service."""
        if address.content != "item":
            raise UnavailableError(f"its messages have {ROOM} bytes here")
        iceoryx2 = self.package()
        iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
        node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
        name = iceoryx2.ServiceName.new(address.path)
        return node, node.service_builder(name).request_response(Message, Message).open_or_create()


def _message(body: bytes) -> Message:
    message = Message(len(body))
    ctypes.memmove(ctypes.addressof(message) + BODY, body, len(body))
    return message


def _body(received: Any) -> bytes:
    at = received.payload_ptr
    return ctypes.string_at(at + BODY, ctypes.c_uint32.from_address(at).value)
