"""A crowd at one server: who blocks, lies, stops or dies among it costs the others nothing but time."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

import flipcall
from flipcall.conformance.deadlines import MARGIN, Handler
from flipcall.conformance.services import Desk, DeskServer
from flipcall.frame import HEADER
from tests.faults.programs import Site, SiteServer, calling
from tests.faults.raw import RawClient
from tests.support import child, stop, wait_until

CALLERS = 6
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


class Callers:
    """Clients that call without pause until told to end; each checks every answer."""

    def __init__(self, connect: Callable[..., Any], threads: ThreadPoolExecutor) -> None:
        self.done = [0] * CALLERS
        self._ended = threading.Event()
        self._running = [threads.submit(self._call, i, connect(Site)) for i in range(CALLERS)]

    def _call(self, i: int, site: Site) -> None:
        while not self._ended.is_set():
            assert site.add(self.done[i], i) == self.done[i] + i
            self.done[i] += 1

    def go_on(self) -> None:
        """Return when each of them has had more answers, or one has failed."""
        before = list(self.done)
        wait_until(
            lambda: (
                all(d > b + 2 for d, b in zip(self.done, before, strict=True))
                or any(r.done() for r in self._running)
            )
        )

    def end(self) -> None:
        """Raises what a caller raised."""
        self._ended.set()
        for running in self._running:
            running.result(MARGIN)


@pytest.mark.parametrize("fault", ["scribbles", "kind", "hangs up"])
def test_a_liar_among_them(
    serve: Callable[..., flipcall.Server],
    connect: Callable[..., Site],
    path: str,
    transport: str,
    fault: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Clients that break the protocol, one after another, end their own channels, and nobody else's answers."""
    server = serve(SiteServer())
    chance = random.Random(fault)
    with ThreadPoolExecutor(CALLERS) as threads:
        callers = Callers(connect, threads)
        try:
            for _ in range(5):
                with RawClient(path, transport) as liar:
                    if fault == "hangs up":
                        continue
                    if fault == "scribbles" and liar.endpoint is not None:
                        window = liar.endpoint.core()[1]
                        for at in range(16):
                            window[at] = bytes([chance.randrange(256)])
                    else:
                        assert liar.exchange(HEADER.pack(77, 0, 0, 1, 0, 0)) == b""
                callers.go_on()
            wait_until(lambda: server.channels == CALLERS)
        finally:
            callers.end()


@pytest.mark.parametrize("fault", ["killed", "stopped"])
def test_a_victim_among_them(
    serve: Callable[..., flipcall.Server],
    connect: Callable[..., Site],
    path: str,
    transport: str,
    fault: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Client processes that die or stand still at any moment: others' calls go on, and the dead are cleared."""
    server = serve(SiteServer())
    with ThreadPoolExecutor(CALLERS) as threads, ExitStack() as stack:
        callers = Callers(connect, threads)
        try:
            victims = [stack.enter_context(child(calling, path, transport, "balanced")) for _ in range(3)]
            for i, victim in enumerate(victims):
                victim.expect("connected")
                if i:
                    victim.tell("wait call" if i == 1 else "add 1 2")
                if fault == "killed":
                    victim.kill()
                else:
                    stop(victim.pid)
                callers.go_on()
            if fault == "stopped":
                assert server.channels == CALLERS + 3
                for victim in victims:
                    os.kill(victim.pid, signal.SIGCONT)
                    victim.kill()
            wait_until(lambda: server.channels == CALLERS)
        finally:
            callers.end()


@pytest.mark.parametrize("blocked", [1, 8])
def test_blocking_handlers_beside_quick_ones(
    serve: Callable[..., flipcall.Server], connect: Callable[..., Desk], transport: str, blocked: int
) -> None:
    """However many handlers block, quick calls of others are answered meanwhile, and of the same client, too."""
    desk_server = DeskServer()
    handlers = [Handler(desk_server.jobs, name=f"wait{i}") for i in range(blocked)]
    serve(desk_server)
    patient, quick = connect(Desk, max_channels=blocked + 1), connect(Desk)
    with ThreadPoolExecutor(blocked) as threads:
        calls = [threads.submit(patient.run, f"wait{i}") for i in range(blocked)]
        try:
            assert all(handler.entered.wait(MARGIN) for handler in handlers)
            assert [quick.add(i) for i in range(200)] == [i + 10 for i in range(200)]
            assert [patient.add(i) for i in range(200)] == [i + 10 for i in range(200)]
            assert not any(call.done() for call in calls)
        finally:
            for handler in handlers:
                handler.go.set()
        assert [call.result(MARGIN) for call in calls] == ["late"] * blocked


def test_idle_channels_do_not_look(
    serve: Callable[..., flipcall.Server], connect: Callable[..., Site]
) -> None:
    """A channel whose client is watched sleeps through: its own look at the client's life is a minute away."""
    server = serve(SiteServer())
    assert connect(Site, transport="window").add(1, 2) == 3
    (connection,) = server._inside._connections.live()
    assert connection._serving._ep.slice_ns >= 60_000_000_000  # type: ignore[union-attr]
