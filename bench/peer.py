"""A Python contender's processes: ``python -m bench.peer PARENT_PID CONFIG``, run by process.py."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable

import msgspec

from bench.peers.base import Address
from bench.placement import UnavailableError
from flipcall.errors import UnsupportedError

PR_SET_PDEATHSIG = 1


class EndpointConfig(msgspec.Struct, frozen=True, tag="endpoint"):
    """Answer every datagram of a window with an empty one.

    `cpu` is where to be pinned, -1 for nowhere; `descriptors` a socket on which what the switch needs arrives.
    """

    fd: int
    length: int
    policy: str
    switch: str
    placement: str
    cpu: int
    descriptors: int


class ClientConfig(msgspec.Struct, frozen=True, tag="client"):
    """Make calls to a server process of one's own, whenever a line on standard input asks for a run."""

    policy: str
    switch: str
    placement: str


class ServeConfig(msgspec.Struct, frozen=True, tag="serve"):
    """Be the server of one of bench.peers."""

    address: Address
    cpu: int


class CallerConfig(msgspec.Struct, frozen=True, tag="caller"):
    """Be so many clients of `address`, and call when a line on standard input asks for it."""

    address: Address
    connections: int
    server: int  # its pid


class GoferConfig(msgspec.Struct, frozen=True, tag="gofer"):
    """Serve the directory `root` through gofer at `path`."""

    path: str
    root: str
    read_only: bool = True


class MountConfig(msgspec.Struct, frozen=True, tag="mount"):
    """Mount a tree on `mountpoint`. `kind`: "mount", of the gofer at socket `source`; "passthrough", the directory
    `source`; "passthrough-loop", the same in the loop of the gofer's mount.
    """

    source: str
    mountpoint: str
    kind: str


Config = EndpointConfig | ClientConfig | ServeConfig | CallerConfig | GoferConfig | MountConfig


def main(arguments: list[str]) -> int:
    """Serve until standard input ends. The exit status."""
    parent, text = arguments
    _die_with(int(parent))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a thousand clients need some thousand
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group: the bench stops its children
    config = msgspec.json.decode(text, type=Config)
    try:
        serve(config, int(parent))
    except (UnavailableError, UnsupportedError) as error:
        say(f"unavailable: {' '.join(str(error).split())}")
    return 0


def serve(config: Config, parent: int) -> None:
    """Be what `config` says."""
    if isinstance(config, EndpointConfig):
        from bench.pair import serve_endpoint

        serve_endpoint(config, parent)
    elif isinstance(config, ClientConfig):
        serve_runs(config)
    elif isinstance(config, ServeConfig):
        serve_peer(config)
    elif isinstance(config, CallerConfig):
        from bench.callers import serve_calls

        serve_calls(config)
    elif isinstance(config, MountConfig):
        serve_mount(config)
    else:
        serve_gofer(config)


def serve_runs(config: ClientConfig) -> None:
    """Be a client: one run for each line, answered with its sample."""
    from bench.loads import Load
    from bench.pair import Pair, RunRequest

    with Pair(config) as pair:
        ready()
        for line in sys.stdin:
            request = msgspec.json.decode(line, type=RunRequest)
            sample = pair.run(Load(request.load), request.effort)
            say(msgspec.json.encode(sample).decode())


def serve_peer(config: ServeConfig) -> None:
    """Answer calls, whatever carries them."""
    from bench.peers import peer_named

    pin(config.cpu)
    peer_named(config.address.transport).serve(config.address, _Life())


def serve_gofer(config: GoferConfig) -> None:
    """Serve files over both transports."""
    from bench.gofer import serve

    serve(config, ready, sys.stdin.read)


def serve_mount(config: MountConfig) -> None:
    """Be a file system, until standard input ends."""
    from bench.passthrough import mount_passthrough
    from gofer.fuse import mount

    # SIGTERM, so that the mount goes before its process does.
    _die_with(os.getppid(), signal.SIGTERM)

    def unmount_at_end() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=unmount_at_end, daemon=True).start()
    if config.kind == "mount":
        mount(config.source, config.mountpoint, ready=ready)
    else:
        mount_passthrough(config.source, config.mountpoint, ready, config.kind.endswith("-loop"))


class _Life:
    """A server process's life (bench.peers.base): it ends with standard input."""

    def ready(self) -> None:
        ready()

    def wait(self) -> None:
        sys.stdin.read()

    def ended(self) -> Callable[[], bool]:
        over = threading.Event()

        def watch() -> None:
            sys.stdin.read()
            over.set()

        threading.Thread(target=watch, daemon=True).start()
        return over.is_set


def pin(cpu: int) -> None:
    """Run on `cpu` alone; -1 changes nothing."""
    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})


def ready() -> None:
    """Tell the bench that calls will be answered."""
    say("ready")


def say(line: str) -> None:
    """One line to whoever started this process."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Be killed when the bench dies, however it dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    prctl: Callable[..., int] = libc.prctl
    if prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the request took effect
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
