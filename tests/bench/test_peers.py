"""The peers flipcall is measured against: each echoes what it is sent, from a process that ends when told to."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.bulk import Memcpy
from bench.calls import EchoCall
from bench.crowd import Crowd
from bench.echo import CODECS, ITEM
from bench.measure import QUICK
from bench.peers import PEERS, peer_named
from bench.peers.base import Peer
from bench.placement import Placement, UnavailableError
from bench.process import STOP_SECONDS
from bench.rows import Labels
from bench.thousand import Connected, OneOf
from tests.leaks import children

BYTES = [name for name in PEERS if name != "iceoryx2"]


def require(name: str) -> Peer:
    """The peer, or a visible skip with the reason."""
    try:
        return peer_named(name)
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("name", PEERS)
def test_an_item_comes_back_and_the_server_ends_when_told(name: str, tmp_path: Path) -> None:
    """Calls are measured on both sides, in two runs; nobody is left, and nobody had to be killed."""
    require(name)
    labels = Labels(case="typed", transport=name)
    with EchoCall(labels, Placement.FREE, tmp_path) as contender:
        for _ in range(2):
            sample = contender.run(QUICK)
            assert sample.p50 is not None
            assert sample.server_cpu is not None
        started = time.monotonic()
    assert time.monotonic() - started < STOP_SECONDS, "the server did not end by itself"
    assert not children()


@pytest.mark.parametrize("name", BYTES)
def test_bytes_come_back(name: str, tmp_path: Path) -> None:
    """1 MiB, which some of the peers take only when told before."""
    require(name)
    labels = Labels(case="echo", transport=name, size=1 << 20)
    with EchoCall(labels, Placement.FREE, tmp_path, "bytes") as contender:
        assert contender.run(QUICK).p50 is not None


def test_iceoryx_says_that_it_carries_no_bulk_here(tmp_path: Path) -> None:
    """A reason, not a crash."""
    require("iceoryx2")
    with pytest.raises(UnavailableError, match="508"):
        EchoCall(Labels(case="echo", transport="iceoryx2", size=9), Placement.FREE, tmp_path, "bytes")


@pytest.mark.parametrize(("name", "package"), [("grpc", "grpc"), ("iceoryx2", "iceoryx2"), ("zmq", "zmq")])
def test_a_peer_that_is_not_installed_says_what_to_install(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row then carries this reason."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnavailableError, match=r"pip install 'flipcall\[bench\]'"):
        peer_named(name)


def test_the_ring_is_not_offered_where_stores_may_be_seen_in_another_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would lose messages on aarch64."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(UnavailableError, match="aarch64"):
        peer_named("busy-ring")


def test_a_polling_server_stands_still_while_others_are_measured(tmp_path: Path) -> None:
    """Stopped between runs, running during them."""
    require("busy-ring")
    with EchoCall(Labels(case="typed", transport="busy-ring"), Placement.FREE, tmp_path) as contender:
        server = psutil.Process(contender.peer.pid)
        for _ in range(2):
            deadline = time.monotonic() + 10
            while server.status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
                time.sleep(0.001)
            assert server.status() == psutil.STATUS_STOPPED
            contender.run(QUICK)


@pytest.mark.parametrize("name", ["flipcall", "busy-ring"])
def test_a_crowd_counts_the_calls_of_all(name: str, tmp_path: Path) -> None:
    """Three client processes of one server; none is left."""
    require(name)
    with Crowd(Labels(case="typed", transport=name), tmp_path, clients=3) as crowd:
        sample = crowd.run(QUICK)
    assert sample.elapsed is not None
    assert sample.client_cpu is not None
    assert not children()


@pytest.mark.parametrize("load", ["paced-10ms", "back-to-back"])
def test_one_among_connected_clients_is_measured(load: str, tmp_path: Path) -> None:
    """Twelve clients in four processes, as a thousand would be."""
    with Connected(12, tmp_path) as connected:
        sample = OneOf(Labels(case="among_1000", load=load), connected).run(QUICK)
        assert connected.server.rss_mib() > 1
    assert sample.p50 is not None
    assert sample.server_cpu is not None


def test_more_clients_than_descriptors_are_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is started."""
    monkeypatch.setattr("resource.getrlimit", lambda which: (1024, 1024))
    with pytest.raises(UnavailableError, match="RLIMIT_NOFILE"):
        Connected(1000, tmp_path)


def test_the_copies_are_measured() -> None:
    """Of the row's size."""
    assert Memcpy(Labels(case="echo", transport="memcpy", size=4096)).run(QUICK).p50 is not None


def test_codecs_bring_back_what_was_sent() -> None:
    """Through any buffer, as the ring hands it over."""
    codec = CODECS["item"]
    assert codec.decode(memoryview(codec.answer(bytearray(codec.encode(ITEM))))) == ITEM
    assert CODECS["bytes"].answer(memoryview(b"abc")) == b"abc"
