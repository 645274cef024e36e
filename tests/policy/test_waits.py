"""WaitPolicy: what is accepted, and what it comes to on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from flipcall import cpus as machine
from flipcall.lowlevel import WaitPolicy
from flipcall.policy import waits
from tests.policy.conftest import Pair
from tests.support import run_python

MakePair = Callable[[WaitPolicy, WaitPolicy], Pair]


@pytest.mark.parametrize(
    "wrong",
    [
        {"spin_ns": -1},
        {"spin_ns": 10**12 + 1},
        {"spin_ns": 1.5},
        {"spin_ns": "50"},
        {"spin_ns": None},
        {"yields": -1},
        {"yields": 10**6 + 1},
        {"yields": True},
        {"adaptive": 1},
        {"placement": "moon"},
    ],
)
def test_wrong_numbers_are_refused(wrong: dict[str, object]) -> None:
    """At once, with a ValueError that names what is allowed."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WaitPolicy(**wrong)  # type: ignore[arg-type]


def test_presets() -> None:
    """latency spins always, balanced while it pays, frugal and same_cpu never."""
    assert WaitPolicy() == WaitPolicy.balanced()
    assert WaitPolicy.balanced().adaptive
    assert not WaitPolicy.latency().adaptive
    assert WaitPolicy.latency().spin_ns > WaitPolicy.balanced().spin_ns > 0
    assert WaitPolicy.frugal().spin_ns == WaitPolicy.same_cpu().spin_ns == 0
    assert {p.placement for p in (WaitPolicy(), WaitPolicy.latency(), WaitPolicy.frugal())} == {"free"}
    assert WaitPolicy.same_cpu().placement == "same-cpu"


def test_no_spin_under_a_cpu_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than two CPUs' worth of time: whoever spins spends what its peer needs."""
    monkeypatch.setattr(machine, "quota", lambda: 1.5)
    for policy in (WaitPolicy.latency(), WaitPolicy.balanced()):
        assert waits(policy).spin_ns == 0


def test_yields_only_where_both_sides_share_a_cpu(cpus: frozenset[int]) -> None:
    """With several CPUs only placement same-cpu yields: sleeping is what lets the scheduler part the sides."""
    assert waits(WaitPolicy.balanced()).yields == 0
    assert waits(WaitPolicy.same_cpu()).yields == WaitPolicy.same_cpu().yields > 0
    os.sched_setaffinity(0, {min(cpus)})
    assert waits(WaitPolicy.balanced()).yields == WaitPolicy.balanced().yields
    os.sched_setaffinity(0, cpus)


def _call_on_one_cpu() -> None:
    """Child program: a thousand calls under each preset, on one CPU."""
    import os
    import threading

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from flipcall.errors import ClosedError
    from flipcall.lowlevel import Endpoint, MemfdAllocator, PacketWindow, Side, WaitPolicy

    presets = (WaitPolicy.latency, WaitPolicy.balanced, WaitPolicy.frugal, WaitPolicy.same_cpu)
    for policy in (preset() for preset in presets):
        window = MemfdAllocator().allocate(4096)
        other = PacketWindow.attach(os.dup(window.fd), window.length)
        client = Endpoint(window, Side.CLIENT, policy=policy)
        server = Endpoint(other, Side.SERVER, policy=policy)

        def serve(server: object = server) -> None:
            assert isinstance(server, Endpoint)
            try:
                server.recv_first()
                while True:
                    server.send_recv(0)
            except ClosedError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        client.connect()
        for _ in range(1000):
            client.send_recv(0)
        client.shutdown()
        thread.join()
        for side in (client, server):
            assert "no spin" in repr(side), repr(side)
            assert side.stats.spins_lost == 0, side.stats
            side.close()


def test_one_cpu_never_spins() -> None:
    """As under taskset: no preset spins, every call is answered."""
    done = run_python(_call_on_one_cpu)
    assert done.returncode == 0, done.stderr


def test_an_idle_channel_costs_nothing(pair: MakePair) -> None:
    """A server that waits under balanced spins once, for its budget, and then sleeps."""
    both = pair(WaitPolicy.balanced(), WaitPolicy.balanced())
    both.call(100)
    before = both.server.stats
    while both.server.stats.parks == before.parks:  # the test's own timeout bounds it
        os.sched_yield()
    assert both.server.stats.spins_lost - before.spins_lost <= 1
