"""A server that lives through all that its clients do: calls from many threads and processes, killed at random.

    python -m tests.stress.calls [--switch NAME] [--seconds N] [--seed S] [--cpus N] [--busy N]

The server runs in this process. Client processes call it from several threads each, with random sizes, deadlines
and handlers that take their time; this process kills some of them, stops others for a moment, and starts new ones.
Checks: every answer is the one to its question; a call ends with it or DeadlineExceeded, no other error; no client
hangs; when the last is gone the server has no session, thread, descriptor or mapping more than before.
Exit: 0, 1 with the seed, 77 for a switch that cannot work here.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import flipcall
from flipcall import DeadlineExceeded, FlipcallError
from flipcall.switch import offered
from tests.leaks import Holdings
from tests.stress.crowd import SKIP, Busy, choose_cpus

PATIENCE_S = 30.0
THREADS = 3
CLIENTS = 3


class Echo(flipcall.Service):
    """What is called."""

    def add(self, a: int, b: int) -> int:
        raise NotImplementedError

    def turn(self, data: bytes, pause_us: int) -> bytes:
        raise NotImplementedError


class EchoServer(Echo):
    """Answers, sometimes late. One for each client session."""

    alive = 0
    calls = 0  # about: threads may lose one
    _lock = threading.Lock()

    def __init__(self, peer: flipcall.Peer) -> None:
        with self._lock:
            EchoServer.alive += 1

    def on_disconnect(self) -> None:
        with self._lock:
            EchoServer.alive -= 1

    def add(self, a: int, b: int) -> int:
        EchoServer.calls += 1
        return a + b

    def turn(self, data: bytes, pause_us: int) -> bytes:
        EchoServer.calls += 1
        if pause_us:
            time.sleep(pause_us / 1e6)
        return data[::-1]


def call(echo: Echo, dice: random.Random) -> str:
    """One random call; what is wrong with its answer."""
    if dice.random() < 0.5:
        a, b = dice.getrandbits(32), dice.getrandbits(32)
        got = echo.add(a, b)
        return "" if got == a + b else f"{a} + {b} was {got}"
    data = dice.randbytes(dice.choice((0, 1, 100, 5000, 50_000)))
    pause_us = dice.choice((0, 0, 0, 200, 3000))
    try:
        options = flipcall.with_options(echo, timeout=dice.choice((30.0, 30.0, 0.001)))
        turned = options.turn(data, pause_us)
    except DeadlineExceeded:
        return ""
    return "" if turned == data[::-1] else f"{len(data)} bytes came back as {len(turned)} others"


def be_client(path: str, switch: str, seed: int, end: float) -> int:
    """Call from several threads until `end` (time.monotonic()); the exit status."""
    wrong: list[str] = []

    def work(number: int, echo: Echo) -> None:
        dice = random.Random(f"{seed}/{number}")
        try:
            while time.monotonic() < end and not wrong:
                if said := call(echo, dice):
                    wrong.append(said)
        except BaseException:
            wrong.append(traceback.format_exc())

    with flipcall.connect(Echo, path, switch=switch, max_channels=2) as echo:
        threads = [threading.Thread(target=work, args=(i, echo)) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for said in wrong:
        print(f"stress: a client: {said}", file=sys.stderr, flush=True)
    return 1 if wrong else 0


class Clients:
    """The client processes, by number of the process."""

    def __init__(self, path: str, switch: str, end: float) -> None:
        self._arguments = (path, switch)
        self._end = end
        self._pids: set[int] = set()
        self.started = self.killed = 0

    def fill(self, seed: int) -> None:
        """Start clients until there are enough. Fresh programs: this process has threads, and cannot just fork."""
        while len(self._pids) < CLIENTS:
            self.started += 1
            path, switch = self._arguments
            seconds = str(self._end - time.monotonic())
            command = [sys.executable, "-m", "tests.stress.calls", "--client", path, "--switch", switch]
            command += ["--seed", str(seed + self.started), "--seconds", seconds]
            pid = os.posix_spawn(sys.executable, command, os.environ)
            self._pids.add(pid)

    def meddle(self, dice: random.Random) -> None:
        """Kill one, or let one stand still for a moment."""
        pid = dice.choice(sorted(self._pids))
        if dice.random() < 0.4:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._pids.remove(pid)
            self.killed += 1
        else:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(dice.random() * 0.05)
            os.kill(pid, signal.SIGCONT)

    def finish(self) -> str:
        """Wait for all; what was wrong."""
        latest = time.monotonic() + PATIENCE_S
        wrong = ""
        while self._pids:
            for pid in sorted(self._pids):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    self._pids.remove(pid)
                    wrong = wrong or ("" if status == 0 else f"a client ended with status {status}")
            if time.monotonic() > latest:
                wrong = f"{len(self._pids)} clients hang"
                for pid in self._pids:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        return wrong


def serve(switch: str, seed: int, seconds: float) -> str:
    """Serve and meddle for so many seconds; what was wrong."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "echo.sock")
        with flipcall.Server(EchoServer, path, switch=switch):
            before = Holdings.now()
            clients = Clients(path, switch, time.monotonic() + seconds)
            end = time.monotonic() + seconds
            try:
                while time.monotonic() < end:
                    clients.fill(seed)
                    time.sleep(dice.random() * 0.4)
                    clients.meddle(dice)
            finally:
                wrong = clients.finish()
            latest = time.monotonic() + PATIENCE_S
            while left := Holdings.now().beyond(before) + [f"{EchoServer.alive} sessions"] * bool(
                EchoServer.alive
            ):
                if time.monotonic() > latest:
                    return wrong or f"left in the server: {left}"
                time.sleep(0.01)
            print(
                f"stress: {clients.started} clients, {clients.killed} killed, some {EchoServer.calls} calls",
                flush=True,
            )
            return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Calls at random, from clients that are killed.")
    parser.add_argument("--switch", default="futex")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--seed", type=int, default=time.monotonic_ns())
    parser.add_argument("--cpus", type=int, default=0)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--client", help="be a client of the server at this path")
    options = parser.parse_args()
    try:
        offered(options.switch)
    except (FlipcallError, ValueError) as e:
        print(f"stress: skipped: {e}")
        return SKIP
    if options.client:
        return be_client(options.client, options.switch, options.seed, time.monotonic() + options.seconds)
    cpus = choose_cpus(options.cpus)
    print(
        f"stress: calls, {options.switch}, {cpus} CPUs, {options.busy} busy, --seed {options.seed}",
        flush=True,
    )
    with Busy(options.busy):
        wrong = serve(options.switch, options.seed, options.seconds)
    if wrong:
        print(f"stress: FAILED: --seed {options.seed}: {wrong}", file=sys.stderr)
        return 1
    print("stress: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
