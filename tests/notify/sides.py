"""What the children of these tests run: the two sides of a window with the notify switch, and where they sleep."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from flipcall.errors import (
    ClosedError,
    DeadlineExceeded,
    ForkedError,
    PeerDiedError,
    ProtocolError,
    UnsupportedError,
)
from flipcall.lowlevel import (
    Endpoint,
    Liveness,
    MemfdAllocator,
    PacketWindow,
    Side,
    WaitPolicy,
    recv_fds,
    send_fds,
)
from flipcall.notify import NotifyLink

__all__ = [
    "ClosedError",
    "DeadlineExceeded",
    "Endpoint",
    "ForkedError",
    "NotifyLink",
    "PeerDiedError",
    "ProtocolError",
    "UnsupportedError",
    "client",
    "errno",
    "os",
    "server",
    "signal",
    "sys",
    "threading",
    "time",
    "within",
]

FRUGAL = WaitPolicy.frugal()
SIZE = 65536


def client(fd: int, policy: WaitPolicy = FRUGAL) -> tuple[socket.socket, Endpoint, NotifyLink]:
    """Make window and link, send them, and be the client."""
    sock = socket.socket(fileno=fd)
    life = Liveness.of(sock)
    window = MemfdAllocator().allocate(SIZE)
    link = NotifyLink.make()
    pid = os.getpid().to_bytes(4, "little")
    send_fds(sock, pid + link.identity, [window.fd, *link.descriptors()])
    link.sent()
    server_pid = int.from_bytes(sock.recv(4), "little")
    life = Liveness(server_pid)
    return sock, Endpoint(window, Side.CLIENT, peer=life, policy=policy, switch="notify", notify=link), link


def server(fd: int, policy: WaitPolicy = FRUGAL) -> tuple[socket.socket, Endpoint, NotifyLink]:
    """Receive window and link, and be the server."""
    sock = socket.socket(fileno=fd)
    data, fds = recv_fds(sock, 64, 3)
    sock.sendall(os.getpid().to_bytes(4, "little"))
    pid = int.from_bytes(data[:4], "little")
    window = PacketWindow.attach(fds[0], SIZE)
    link = NotifyLink.adopt(fds[1:], data[4:], pid)
    return sock, Endpoint(window, Side.SERVER, peer=Liveness(pid), policy=policy, notify=link), link


class within:
    """An assertion on a deadline: the block takes between `least` and `most` seconds."""

    def __init__(self, least: float, most: float) -> None:
        self.least, self.most = least, most

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: object) -> None:
        took = time.monotonic() - self.start
        assert self.least <= took <= self.most, f"took {took} s, expected {self.least} to {self.most}"


def sleeps_in(pid: int, *names: str) -> bool:
    """Whether a thread of the process sleeps in one of these system calls (trap, poll, futex)."""
    numbers = {"trap": (110, 173), "poll": (271, 73), "futex": (202, 98), "ioctl": (16, 29)}
    wanted = {str(numbers[name]["aarch64" in os.uname().machine]) for name in names}
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return any(
            (task / "syscall").read_text().split()[0] in wanted for task in tasks if int(task.name) == pid
        )
    except (OSError, IndexError):
        return False
