"""Either side killed, at rest and at work: the other notices, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gofer_support import ROOT, SERVE, descriptors

import flipcall
from gofer.client import GoferClient, Transport
from gofer.export import Export
from gofer.server import GoferServer
from tests.support import wait_until

CLIENT = """
import sys
from gofer.client import GoferClient, Transport
client = GoferClient(sys.argv[1], transport=sys.argv[2])
held = [client.open("dir/deep/file", "rb") for _ in range(20)]
client.gofer.walk(client.root.fid, [b"dir", b"deep"])
print("ready", flush=True)
if sys.argv[3] == "busy":
    while True:
        client.read_bytes("hello")
        client.listdir("/")
sys.stdin.read()
"""


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has printed its first line; killed at the end."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline()
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize("doing", ["idle", "busy"])
def test_killed_client(tree: Path, tmp_path: Path, transport: Transport, doing: str) -> None:
    """SIGKILL of a client closes every descriptor it held in the server, which serves the next one."""
    export = Export(tree)
    path = str(tmp_path / "socket")
    with GoferServer(export, path) as server:
        before = len(descriptors())
        with process("-c", CLIENT, path, transport, doing) as child:
            assert len(descriptors()) > before + 20
            child.kill()
        wait_until(lambda: server.channels == 0, what="the server lets go of the client's channel")
        wait_until(lambda: len(descriptors()) <= before, what="the server closes its descriptors")
        with GoferClient(path, transport=transport) as client:
            assert client.read_bytes("hello") == b"hello, world\n"
    export.close()


def test_killed_server(tree: Path, tmp_path: Path, transport: Transport) -> None:
    """SIGKILL of the server is a PeerError at the client's next call; connecting again is an error too."""
    path = str(tmp_path / "socket")
    with process(*SERVE, str(tree), "--socket", path) as server:
        with GoferClient(path, transport=transport) as client:
            file = client.open("hello", "rb")
            server.kill()
            server.wait()
            with pytest.raises((flipcall.PeerError, flipcall.ClosedError)):
                client.stat("hello")
            with pytest.raises((flipcall.FlipcallError, OSError)):
                file.read()
            with contextlib.suppress(flipcall.FlipcallError, OSError):
                file.close()
        with pytest.raises((flipcall.FlipcallError, OSError)):
            GoferClient(path, transport=transport, connect_timeout=0.5)


def test_server_killed_under_load(tree: Path, tmp_path: Path, transport: Transport) -> None:
    """Threads in the middle of calls all get an error, and none a wrong byte or a hang."""
    path = str(tmp_path / "socket")
    outcomes: list[object] = []
    with (
        process(*SERVE, str(tree), "--socket", path) as server,
        GoferClient(path, transport=transport) as client,
    ):
        started = threading.Barrier(5)

        def run() -> None:
            started.wait()
            try:
                while client.read_bytes("hello") == b"hello, world\n":
                    pass
                outcomes.append("wrong bytes")
            except (flipcall.PeerError, flipcall.ClosedError, ConnectionError, FileNotFoundError):
                outcomes.append("noticed")
            except BaseException as error:
                outcomes.append(error)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        client.stat("hello")  # by now all of it is moving
        server.kill()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
    assert outcomes == ["noticed"] * 4


def test_terminated_server_leaves_nothing(tree: Path, tmp_path: Path) -> None:
    """SIGTERM: exit status 0, and the socket is gone."""
    path = str(tmp_path / "socket")
    with process(*SERVE, str(tree), "--socket", path) as server:
        assert os.path.exists(path)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
    assert not os.path.exists(path)


def test_server_ends_with_its_parent(tree: Path, tmp_path: Path) -> None:
    """A gofer told to do so does not outlive the process that started it."""
    path = str(tmp_path / "socket")
    start = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'gofer', 'serve', '--confinement', 'partial', *sys.argv[1:]]\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with process("-c", start, str(tree), "--socket", path, "--stop-with-parent") as parent:
        with GoferClient(path) as client:
            assert client.exists("hello")
        parent.kill()
    wait_until(lambda: not os.path.exists(path), what="the gofer ends with its parent")
