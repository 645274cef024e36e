"""A Python contender's server process: ``python -m bench.peer PARENT_PID CONFIG``, run by process.py."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

import msgspec

PR_SET_PDEATHSIG = 1


class EndpointConfig(msgspec.Struct, frozen=True, tag="endpoint"):
    """Answer every datagram of a window with an empty one. `cpu` is where to be pinned, -1 for nowhere."""

    fd: int
    length: int
    policy: str
    cpu: int
    shares_cpu: bool


class EchoConfig(msgspec.Struct, frozen=True, tag="echo"):
    """Serve bench.echo at `path`."""

    path: str
    policy: str
    cpu: int


class GoferConfig(msgspec.Struct, frozen=True, tag="gofer"):
    """Serve the directory `root` through examples.gofer at `path`."""

    path: str
    root: str


Config = EndpointConfig | EchoConfig | GoferConfig


def main(arguments: list[str]) -> int:
    """Serve until standard input ends. The exit status."""
    parent, text = arguments
    _die_with(int(parent))
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group: the bench stops its children
    config = msgspec.json.decode(text, type=Config)
    if isinstance(config, EndpointConfig):
        serve_endpoint(config, int(parent))
    elif isinstance(config, EchoConfig):
        serve_echo(config)
    else:
        serve_gofer(config)
    return 0


def serve_endpoint(config: EndpointConfig, parent: int) -> None:
    """Be the server side of a bare Endpoint until the client shuts it down."""
    from bench.policies import policy_named
    from flipcall.errors import ClosedError, PeerDiedError
    from flipcall.lowlevel import Endpoint, Liveness, PacketWindow, Side

    # An endpoint that finds itself on one CPU does not spin. So for two CPUs, one for each side, pin after
    # it is made; for one CPU shared by both sides, before.
    if config.shares_cpu:
        pin(config.cpu)
    window = PacketWindow.attach(config.fd, config.length)
    policy = policy_named(config.policy)
    with Endpoint(window, Side.SERVER, peer=Liveness(pid=parent), policy=policy) as endpoint:
        pin(config.cpu)
        ready()
        try:
            endpoint.recv_first()
            while True:
                endpoint.send_recv(0)
        except (ClosedError, PeerDiedError):
            pass


def serve_echo(config: EchoConfig) -> None:
    """Serve typed calls over both transports."""
    import flipcall
    from bench.echo import EchoServer
    from bench.policies import policy_named

    pin(config.cpu)
    with flipcall.Server(EchoServer(), config.path, policy=policy_named(config.policy)):
        ready()
        sys.stdin.read()


def serve_gofer(config: GoferConfig) -> None:
    """Serve files over both transports."""
    from bench.gofer import serve

    serve(config, ready, sys.stdin.read)


def pin(cpu: int) -> None:
    """Run on `cpu` alone; -1 changes nothing."""
    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})


def ready() -> None:
    """Tell the bench that calls will be answered."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _die_with(parent: int) -> None:
    """Be killed when the bench dies, however it dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    prctl: Callable[..., int] = libc.prctl
    if prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the request took effect
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
