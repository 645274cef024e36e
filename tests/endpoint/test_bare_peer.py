"""A peer that knows nothing of the extensions, on both sides: wakes are always issued, nothing is trusted."""

from __future__ import annotations

import json

import pytest

from flipcall import ClosedError
from flipcall.lowlevel import Endpoint, MemfdAllocator, NamedAllocator, Side, State, WaitPolicy
from tests.endpoint.bare import CLIENT_ACTIVE, SERVER_ACTIVE, Bare, Ended
from tests.endpoint.running import KINDS, LONG_SLICE_NS, POLICIES, Running, new_name

every_kind = pytest.mark.parametrize("kind", KINDS)
every_policy = pytest.mark.parametrize("policy", [*POLICIES.values(), WaitPolicy.balanced()], ids=repr)
EMPTY = (b"{}", b' { "unknown": [1, {}] } ')


def a_window(kind: str):  # noqa: ANN201
    return (NamedAllocator(new_name()) if kind == "named" else MemfdAllocator()).allocate(4096)


@every_kind
@every_policy
@pytest.mark.parametrize("said", EMPTY)
def test_bare_server(kind: str, policy: WaitPolicy, said: bytes) -> None:
    """Our client against it: connects, every flip wakes, datagrams cross both ways, shutdown ends it."""
    window = a_window(kind)
    bare = Bare(window, SERVER_ACTIVE)
    heard: list[bytes] = []

    def serve() -> int:
        heard.append(bare.take())
        bare.give(said)
        return bare.echo()

    with Endpoint(window, Side.CLIENT, policy=policy) as client:
        client.core()[0].slice_ns = LONG_SLICE_NS
        server = Running(serve)
        client.connect()
        assert isinstance(json.loads(heard[0]), dict)
        for n in range(1, 200):
            client.data[:n] = bytes(range(n))
            assert client.send_recv(n) == n
            assert bytes(client.data[:n]) == bytes(range(n))[::-1]
        stats = client.stats
        assert (stats.flips, stats.wakes, stats.wakes_skipped, stats.rescues) == (200, 200, 0, 0)
        client.shutdown()
        assert server.result() == 199
    bare.close()


@every_kind
@every_policy
@pytest.mark.parametrize("said", EMPTY[:1])
def test_bare_client(kind: str, policy: WaitPolicy, said: bytes) -> None:
    """Our server against it: answers `{}` with `{}`, and issues as many wakes as it flips."""
    window = a_window(kind)
    bare = Bare(window, CLIENT_ACTIVE)

    def ask() -> list[bytes]:
        bare.give(said)
        answers = [bare.take()]
        for n in range(100):
            bare.give(bytes(range(n)))
            answers.append(bare.take())
        return answers

    with Endpoint(window, Side.SERVER, policy=policy) as server:
        server.core()[0].slice_ns = LONG_SLICE_NS
        client = Running(ask)
        n = server.recv_first()
        for _ in range(99):
            server.data[:n] = bytes(server.data[:n])[::-1]
            n = server.send_recv(n)
        server.data[:n] = bytes(server.data[:n])[::-1]
        server.send_last(n)
        answers = client.result()
        assert json.loads(answers[0]) == {}
        assert answers[1:] == [bytes(range(n))[::-1] for n in range(100)]
        assert server.stats.wakes == server.stats.flips == 101
        assert server.stats.rescues == 0
    bare.close()


@every_kind
def test_bare_peer_shuts_down(kind: str) -> None:
    """Its shutdown, a plain store to the word and a wake, ends our wait."""
    window = a_window(kind)
    bare = Bare(window, CLIENT_ACTIVE)
    with Endpoint(window, Side.SERVER, policy=WaitPolicy.frugal()) as server:
        server.core()[0].slice_ns = LONG_SLICE_NS
        waiting = Running(server.recv_first)
        bare.theirs = 2  # give() then stores SHUTDOWN
        bare.give(b"")
        assert type(waiting.error()) is ClosedError
        assert server.state is State.OVER
        with pytest.raises(Ended):
            bare.take()
    bare.close()
