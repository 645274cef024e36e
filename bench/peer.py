"""A Python contender's processes: ``python -m bench.peer PARENT_PID CONFIG``, run by process.py."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable

import msgspec

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


class EchoConfig(msgspec.Struct, frozen=True, tag="echo"):
    """Serve bench.echo at `path`."""

    path: str
    policy: str
    cpu: int


class GoferConfig(msgspec.Struct, frozen=True, tag="gofer"):
    """Serve the directory `root` through gofer at `path`."""

    path: str
    root: str
    read_only: bool = True


class ViewsConfig(msgspec.Struct, frozen=True, tag="views"):
    """Serve bench.views at `path`."""

    path: str


class MountConfig(msgspec.Struct, frozen=True, tag="mount"):
    """Mount a tree on `mountpoint`. `kind`: "mount", of the gofer at socket `source`; "passthrough", the directory
    `source`; "passthrough-loop", the same in the loop of the gofer's mount.
    """

    source: str
    mountpoint: str
    kind: str


Config = EndpointConfig | ClientConfig | EchoConfig | GoferConfig | ViewsConfig | MountConfig


def main(arguments: list[str]) -> int:
    """Serve until standard input ends. The exit status."""
    parent, text = arguments
    _die_with(int(parent))
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
    elif isinstance(config, EchoConfig):
        serve_echo(config)
    elif isinstance(config, ViewsConfig):
        from bench.views import serve as serve_views

        serve_views(config, ready)
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
