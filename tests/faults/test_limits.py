"""Shortage: no channels, no descriptors, no threads, no right to connect; and crowds that come and go."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import time
from typing import Any

import flipcall
from tests.faults.programs import Site, serving
from tests.leaks import Holdings
from tests.support import child, wait_until

EXHAUSTED = flipcall.Status.RESOURCE_EXHAUSTED


def test_server_out_of_descriptors(path: str, transport: Any) -> None:
    """Clients it cannot take are told at once, those it has are served, and later ones again."""

    def poor(path: str) -> None:
        import os
        import resource

        import flipcall
        from tests.faults.programs import SiteServer

        server = flipcall.Server(SiteServer(), path)
        server.start()
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 9, used + 9))
        say("listens")  # type: ignore[name-defined]  # noqa: F821
        hear()  # type: ignore[name-defined]  # noqa: F821

    with child(poor, path, stderr=subprocess.DEVNULL) as server:
        server.expect("listens")
        clients: list[Site] = []
        errors: list[BaseException] = []
        begun = time.monotonic()
        for _ in range(15):
            try:
                clients.append(flipcall.connect(Site, path, transport=transport))
            except (flipcall.CallError, flipcall.ClosedError) as e:
                errors.append(e)
        assert time.monotonic() - begun < 5
        assert clients
        assert any(isinstance(e, flipcall.CallError) and e.status is EXHAUSTED for e in errors)
        assert [c.add(i, 1) for i, c in enumerate(clients)] == list(range(1, len(clients) + 1))
        for client in clients:
            client.close()

        def served_again() -> bool:
            try:
                with flipcall.connect(Site, path, transport=transport) as site:
                    return site.add(1, 2) == 3
            except (flipcall.CallError, flipcall.ClosedError):
                return False

        wait_until(served_again)


def test_client_out_of_descriptors(server: Any, path: str, transport: Any) -> None:
    """A client that cannot take one more descriptor gets an error, and leaks none of those it got."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with flipcall.connect(Site, path, transport=transport) as site:
        held = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
        try:
            for room in range(5):
                resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, before[1]))
                for fd in held[:room]:
                    os.close(fd)
                try:
                    flipcall.connect(Site, path, transport=transport).close()
                except (OSError, flipcall.FlipcallError):
                    pass
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, before)
                for i in range(room):
                    held[i] = os.open("/dev/null", os.O_RDONLY)
                assert site.add(1, 2) == 3
        finally:
            for fd in held:
                os.close(fd)


def test_crowds_leave_nothing(path: str, transport: Any) -> None:
    """Hundreds of clients that come, call and vanish, politely or not: no descriptor, thread or map stays."""
    with child(serving, path) as server:
        server.expect("listens")

        def holdings() -> tuple[int, int, int]:
            maps = open(f"/proc/{server.pid}/maps").read().count("memfd:")  # noqa: SIM115
            tasks = len(os.listdir(f"/proc/{server.pid}/task"))
            return len(os.listdir(f"/proc/{server.pid}/fd")), tasks, maps

        def settled() -> bool:
            return holdings() == before

        flipcall.connect(Site, path, transport=transport).close()
        wait_until(lambda: holdings()[1] == 2)
        before = holdings()
        here = Holdings.now()
        for i in range(300):
            with socket.socket(socket.AF_UNIX) as rude:
                rude.connect(path)
                rude.sendall(b"\0\0\0"[: i % 4])
            if i % 3 == 0:
                with flipcall.connect(Site, path, transport=transport, window_size=4096) as site:
                    assert site.add(1, i) == i + 1
        wait_until(settled, what="the server holds what it held before")
        assert Holdings.now().beyond(here) == []
