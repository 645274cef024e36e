"""A process of a Python contender: a child that serves, or makes calls, until it is told to stop.

It cannot outlive the bench: its standard input is a pipe that only the bench holds (its end is the order to
stop), and the kernel kills it when the bench dies (PR_SET_PDEATHSIG, set by the child itself, see peer.py).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import msgspec

from bench.compile import ROOT
from bench.measure import CpuTimes
from bench.placement import UnavailableError

READY = b"ready\n"
UNAVAILABLE = b"unavailable: "
START_SECONDS = 20.0
STOP_SECONDS = 5.0
ANSWER_SECONDS = 120.0  # far above what any run takes


class PeerError(Exception):
    """The server process ended, or never became ready."""


class PeerProcess:
    """A child running bench.peer with a `config` of that module; ready when the constructor returns.

    Or, with wait=False, when wait_ready() does, so that several can start at once. Both raise PeerError if it ends
    or is silent for START_SECONDS, UnavailableError if it says that what it was asked for cannot be had here.
    """

    def __init__(self, config: msgspec.Struct, pass_fds: Sequence[int] = (), *, wait: bool = True) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "bench.peer", str(os.getpid()), msgspec.json.encode(config).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=pass_fds,
            cwd=ROOT,
        )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Once, before anything is asked; see the class. A child that does not become ready is closed."""
        try:
            line = self._read_line(START_SECONDS)
            if line.startswith(UNAVAILABLE):
                raise UnavailableError(line.removeprefix(UNAVAILABLE).decode().strip())
            if line != READY:
                raise PeerError(f"the process {self.pid} said {line!r} and not that it was ready")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._child.pid

    def cpu_ns(self) -> int:
        """CPU time of the child and of what it has started, so far, ns (of who runs now up to a tick old)."""
        return sum(time.clock_gettime_ns(process_clock(pid)) for pid in _family(self._child.pid))

    def cpu_times(self) -> CpuTimes:
        """CPU time of this process as the client, and of the child as the server."""
        return CpuTimes(client=time.process_time_ns(), server=self.cpu_ns())

    def ask(self, request: bytes) -> bytes:
        """Send one line to the child, return the line it answers. Raises PeerError if there is none."""
        self.tell(request)
        return self.answer()

    def tell(self, request: bytes) -> None:
        """Send one line to the child; answer() must follow. Raises PeerError."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(request + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise PeerError(f"the process {self.pid} has ended") from None

    def answer(self) -> bytes:
        """The line the child answers. Raises PeerError if there is none."""
        return self._read_line(ANSWER_SECONDS)

    def suspend(self) -> None:
        """Let the child run no more but while awake(): one that polls takes a CPU from whoever is measured."""
        self._child.send_signal(signal.SIGSTOP)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let a suspended child run meanwhile."""
        self._resume()
        try:
            yield
        finally:
            self.suspend()

    def _resume(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def rss_mib(self) -> float:
        """The child's resident memory, MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise PeerError(f"the process {self.pid} has ended")

    def pin(self, cpu: int) -> None:
        """Run all the child's threads, and those they start from now on, on `cpu` alone; -1 changes nothing."""
        if cpu >= 0:
            for task in os.listdir(f"/proc/{self.pid}/task"):
                os.sched_setaffinity(int(task), {cpu})

    def close(self) -> None:
        """Stop the child: asked, then told, then killed. Idempotent."""
        child = self._child
        self._resume()
        if child.stdin is not None:
            with suppress(BrokenPipeError):
                child.stdin.close()
        if child.stdout is not None:
            child.stdout.close()
        for insist in (child.terminate, child.kill):
            try:
                child.wait(STOP_SECONDS)
                return
            except subprocess.TimeoutExpired:
                insist()
        child.wait()

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _read_line(self, seconds: float) -> bytes:
        assert self._child.stdout is not None
        readable, _, _ = select.select([self._child.stdout], [], [], seconds)
        if not readable:
            raise PeerError(f"the process {self.pid} was silent for {seconds:.0f} s")
        line = self._child.stdout.readline()
        if not line:
            status = self._child.wait(STOP_SECONDS)
            raise PeerError(f"the process {self.pid} ended with status {status} before it answered")
        return line


def _family(pid: int) -> list[int]:
    """`pid` and its living descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # the thread has ended, or this kernel does not tell
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    return found


def process_clock(pid: int) -> int:
    """The id of another process's CPU clock, as clock_getcpuclockid(3) makes it (CPUCLOCK_SCHED)."""
    return (~pid << 3) | 2
