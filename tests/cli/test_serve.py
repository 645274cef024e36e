"""flipcall serve: a service from a module in this directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flipcall.dynamic import DynamicClient
from tests.support import PATIENCE_S

SOURCE = """
import flipcall

class Shop(flipcall.Service):
    def add(self, a: int, b: int = 2) -> int: ...
    def clients(self) -> int: ...

class Server(Shop):
    def add(self, a: int, b: int = 2) -> int:
        return a + b
    def clients(self) -> int:
        return 0

class Session(Server):
    made = 0
    def __init__(self, peer: flipcall.Peer) -> None:
        Session.made += 1
    def clients(self) -> int:
        return Session.made

class LoopServer(Shop):
    async def add(self, a: int, b: int = 2) -> int:
        return a + b
    async def clients(self) -> int:
        return 0

class LoopSession(LoopServer):
    made = 0
    def __init__(self, peer: flipcall.Peer) -> None:
        LoopSession.made += 1
    async def clients(self) -> int:
        return LoopSession.made

async def loop_session(peer: flipcall.Peer) -> LoopServer:
    return LoopSession(peer)

def plainly_made(peer: flipcall.Peer) -> LoopSession:
    return LoopSession(peer)

shop = Server()

class Other: ...

number = 5
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with the module."""
    (tmp_path / "shopping.py").write_text(SOURCE)
    return tmp_path


@contextmanager
def running(here: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """`flipcall serve` in that directory; killed in the end if it still runs."""
    command = [sys.executable, "-m", "flipcall.cli", "serve", *args]
    path = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        command, cwd=here, env=path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as serving:
        try:
            yield serving
        finally:
            serving.kill()


@pytest.mark.parametrize(
    ("what", "clients"),
    [
        ("Server", 0),
        ("shop", 0),
        ("Session", 2),
        ("LoopServer", 0),
        ("LoopSession", 2),
        ("loop_session", 2),
        ("plainly_made", 2),
    ],
)
def test_serves_until_sigterm(here: Path, what: str, clients: int) -> None:
    """A class, an object, or one made for each client, for threads or a loop; it says where; SIGTERM ends it."""
    with running(here, f"shopping:{what}", "s", "--json") as serving:
        assert serving.stdout is not None
        told = json.loads("".join(iter(serving.stdout.readline, "}\n")) + "}")
        assert told == {"path": "s", "pid": serving.pid, "service": f"shopping:{what}", "workers": 1}
        for _ in range(2):
            with DynamicClient(here / "s") as there:
                assert there.call("add", [1]) == 3
                found = there.call("clients")
        assert found == clients
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(PATIENCE_S) == 0
        assert serving.stderr is not None
        assert serving.stderr.read() == ""
    assert not (here / "s").exists()


def test_ctrl_c(here: Path) -> None:
    """Ctrl-C ends it well, too; the line for people is on stderr."""
    with running(here, "shopping:Server", "s") as serving:
        assert serving.stderr is not None
        line = serving.stderr.readline()
        assert line == f"serving shopping:Server at s (pid {serving.pid}); Ctrl-C ends it\n"
        serving.send_signal(signal.SIGINT)
        assert serving.wait(PATIENCE_S) == 0
        assert serving.stdout is not None
        assert serving.stdout.read() == ""


@pytest.mark.parametrize(
    ("what", "status", "said"),
    [
        ("shopping", 2, "MODULE:CLASS"),
        ("nowhere:Server", 2, "No module named 'nowhere'"),
        ("shopping:Nothing", 2, "Nothing"),
        ("shopping:Other", 2, "not a subclass of flipcall.Service"),
        ("shopping:number", 2, "is no service"),
    ],
)
def test_what_cannot_be_served(here: Path, what: str, status: int, said: str) -> None:
    """Each is one line and nothing listens."""
    with running(here, what, "s") as serving:
        out, err = serving.communicate(timeout=PATIENCE_S)
    assert serving.returncode == status
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert not (here / "s").exists()


def test_where_nobody_can_listen(here: Path) -> None:
    """A path in use is status 1."""
    (here / "s").touch()
    with running(here, "shopping:Server", "s") as serving:
        _, err = serving.communicate(timeout=PATIENCE_S)
    assert (serving.returncode, err.count("\n")) == (1, 1)
    assert "Address already in use" in err


@pytest.mark.parametrize("what", ["Server", "Session", "LoopServer", "LoopSession"])
def test_workers(here: Path, what: str) -> None:
    """--workers 2 serves with two processes; what they serve is found in the module there, too."""
    with running(here, f"shopping:{what}", "s", "--json", "--workers", "2") as serving:
        assert serving.stdout is not None
        told = json.loads("".join(iter(serving.stdout.readline, "}\n")) + "}")
        assert (told["workers"], told["pid"]) == (2, serving.pid)
        with DynamicClient(here / "s") as one, DynamicClient(here / "s") as other:
            assert one.call("add", [1]) == other.call("add", [1]) == 3
            pids = {one.peer_pid, other.peer_pid}
            assert serving.pid not in pids
            assert len(pids) == (1 if "Session" in what else 2)
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(PATIENCE_S) == 0
        assert serving.stderr is not None
        assert serving.stderr.read() == ""
