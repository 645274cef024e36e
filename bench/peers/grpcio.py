"""gRPC over unix: with grpcio, synchronous on both sides; generic handlers, msgspec's msgpack as serializer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from bench.peers.base import Address, Call, Life, Peer

SERVICE, METHOD = "bench.Echo", "echo"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
THREADS = 8


class Grpc(Peer):
    """Without protobuf, whose cost is not the transport's."""

    needs = "grpc"

    def serve(self, address: Address, life: Life) -> None:
        grpc = self.package()

        codec = address.codec
        handle = codec.handle
        handler = grpc.unary_unary_rpc_method_handler(
            lambda content, context: handle(content),
            request_deserializer=codec.decode,
            response_serializer=codec.encode,
        )
        server = grpc.server(ThreadPoolExecutor(THREADS), options=UNLIMITED)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        server.add_insecure_port(f"unix:{address.path}")
        server.start()
        try:
            life.ready()
            life.wait()
        finally:
            server.stop(None).wait()

    @contextmanager
    def connect(self, address: Address) -> Iterator[Call]:
        grpc = self.package()

        codec = address.codec
        with grpc.insecure_channel(f"unix:{address.path}", options=UNLIMITED) as channel:
            call: Call = channel.unary_unary(
                f"/{SERVICE}/{METHOD}",
                request_serializer=codec.encode,
                response_deserializer=codec.decode,
            )
            yield call
