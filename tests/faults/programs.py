"""What the processes run that these tests kill, stop and orphan."""

# ruff: noqa: F821
# mypy: disable-error-code=name-defined

from __future__ import annotations

from collections.abc import Iterator

import flipcall


class Site(flipcall.Service):
    """Things to be in the middle of."""

    def add(self, a: int, b: int) -> int: ...
    def wait(self, mark: str) -> None: ...
    def die(self) -> None: ...
    def size(self, data: bytes) -> int: ...
    def count(self, n: int) -> Iterator[int]: ...
    def count_and_die(self, n: int) -> Iterator[int]: ...


class SiteServer(Site):
    """`wait` says on standard output that it has begun and that it is cancelled."""

    def add(self, a: int, b: int) -> int:
        return a + b

    def wait(self, mark: str) -> None:
        import time

        print("began", mark, flush=True)
        context = flipcall.context()
        while not context.cancelled:
            time.sleep(0.001)
        print("cancelled", mark, flush=True)

    def die(self) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    def size(self, data: bytes) -> int:
        return len(data)

    def count(self, n: int) -> Iterator[int]:
        yield from range(n)

    def count_and_die(self, n: int) -> Iterator[int]:
        yield from range(n)
        self.die()


def serving(path: str) -> None:
    """Serve until SIGTERM."""
    import flipcall
    from tests.faults.programs import SiteServer

    server = flipcall.Server(SiteServer(), path)
    server.start()
    say("listens")  # type: ignore[name-defined]
    hear()  # type: ignore[name-defined]
    server.stop()
    say("stopped")  # type: ignore[name-defined]


def serving_until_signalled(path: str, stop_with_parent: bool = False) -> None:
    """flipcall.serve(), which ends at SIGTERM; says when it has returned."""
    import flipcall
    from tests.faults.programs import SiteServer

    flipcall.serve(SiteServer(), path, stop_with_parent=stop_with_parent)
    say("returned")  # type: ignore[name-defined]


def calling(path: str, transport: str, policy: str) -> None:
    """Connect, then call what each line says; say the answer, or the error and how long it took."""
    import time

    import flipcall
    from tests.faults.programs import Site

    how = getattr(flipcall.WaitPolicy, policy)()
    site = flipcall.connect(Site, path, transport=transport, policy=how, timeout=20.0)
    say("connected")  # type: ignore[name-defined]
    while line := hear():  # type: ignore[name-defined]
        try:
            method, *args = line.split()
            if method == "add":
                say(site.add(int(args[0]), int(args[1])))  # type: ignore[name-defined]
            else:
                getattr(site, method)(*args)
        except flipcall.FlipcallError as e:
            say(type(e).__name__, getattr(e, "pid", 0), time.monotonic())  # type: ignore[name-defined]


class Staff(flipcall.Service):
    """What tells workers apart."""

    def add(self, a: int, b: int) -> int: ...
    def die(self) -> None: ...
    def pid(self) -> int: ...
    def sleep(self, seconds: float, mark: str = "") -> None: ...
    def calls(self) -> int: ...


class StaffServer(Staff):
    """Counts the calls it has served itself."""

    def __init__(self) -> None:
        self._calls = 0

    def add(self, a: int, b: int) -> int:
        return a + b

    def die(self) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    def pid(self) -> int:
        import os

        self._calls += 1
        return os.getpid()

    def sleep(self, seconds: float, mark: str = "") -> None:
        import time
        from pathlib import Path

        self._calls += 1
        if mark:
            Path(mark).touch()  # for a test that must know that the handler runs
        time.sleep(seconds)

    def calls(self) -> int:
        self._calls += 1
        return self._calls


def own_staff(peer: flipcall.Peer) -> StaffServer:
    """One for each client."""
    return StaffServer()


class LedgerServer(StaffServer):
    """Writes down each addition, one byte."""

    def __init__(self, ledger: int) -> None:
        super().__init__()
        self._ledger = ledger

    def add(self, a: int, b: int) -> int:
        import os

        os.write(self._ledger, b"+")
        return a + b


class StillbornServer(StaffServer):
    """Can be sent to another process, and does not arrive there."""

    def __setstate__(self, state: object) -> None:
        raise RuntimeError("not here")
