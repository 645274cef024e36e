"""A pair of Python endpoints, each in a process of its own, started by the bench: client.py's other half.

The client is not the bench itself, because what it does to its process stays: the notify switch leaves a filter
that slows every system call of the process and its children, and same-cpu moves the thread.
"""

from __future__ import annotations

import importlib
import socket
import time
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import msgspec

from bench.loads import Load, give_up_priority
from bench.measure import Effort, Sample, sample_calls, sample_paced
from bench.peer import ClientConfig, EndpointConfig, pin, ready
from bench.placement import Placement, UnavailableError, pinned
from bench.policies import making_cpu, policy_named
from bench.process import START_SECONDS, PeerProcess
from flipcall.errors import ClosedError, PeerDiedError
from flipcall.lowlevel import Endpoint, Liveness, MemfdAllocator, PacketWindow, Side

WINDOW_LENGTH = 65536
NOTIFY = "notify"


class RunRequest(msgspec.Struct, frozen=True):
    """What the bench asks of the client process: one run. It answers with a Sample."""

    load: str
    effort: Effort


class Pair:
    """Endpoint.send_recv(0) from this process to a child."""

    def __init__(self, config: ClientConfig) -> None:
        placement = Placement(config.placement)
        self._client_cpu, server_cpu = placement.cpus
        with ExitStack() as stack, pinned(making_cpu(placement)):
            ours, theirs = socket.socketpair()
            stack.callback(ours.close)
            with theirs:
                window = MemfdAllocator().allocate(WINDOW_LENGTH)
                stack.callback(window.close)
                server = EndpointConfig(
                    fd=window.fd,
                    length=window.length,
                    policy=config.policy,
                    switch=config.switch,
                    placement=config.placement,
                    cpu=server_cpu,
                    descriptors=theirs.fileno(),
                )
                self.peer = stack.enter_context(PeerProcess(server, pass_fds=[window.fd, theirs.fileno()]))
            self._endpoint = Endpoint(
                window,
                Side.CLIENT,
                peer=Liveness(pid=self.peer.pid),
                policy=policy_named(config.policy),
                switch=config.switch,
                **_notify_client(config.switch, ours, self.peer.pid),
            )
            stack.enter_context(self._endpoint)
            self._endpoint.connect(deadline_ns=time.monotonic_ns() + int(START_SECONDS * 1e9))
            self._open = stack.pop_all()

    def run(self, load: Load, effort: Effort) -> Sample:
        """One run, with this thread on the placement's CPU."""
        call = partial(self._endpoint.send_recv, 0)
        if load is Load.BUSY:
            for pid in (0, self.peer.pid):
                give_up_priority(pid)
        with pinned(self._client_cpu):
            if load.pause_us:
                count = effort.paced_calls(load.pause_us)
                return sample_paced(call, load.pause_us, count, self.peer.cpu_times)
            return sample_calls(call, effort.seconds, self.peer.cpu_times)

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._open.close()


def serve_endpoint(config: EndpointConfig, parent: int) -> None:
    """Be the server side of a bare Endpoint until the client shuts it down."""
    # An endpoint that finds itself on one CPU does not spin. So for two CPUs, one for each side, pin after
    # it is made; for one CPU shared by both sides, before.
    placement = Placement(config.placement)
    if placement is Placement.ONE_CPU:
        pin(config.cpu)
    window = PacketWindow.attach(config.fd, config.length)
    policy = policy_named(config.policy)
    ready()
    with socket.socket(fileno=config.descriptors) as descriptors:
        link = _notify_server(config.switch, descriptors, parent)
    peer = Liveness(pid=parent)
    with Endpoint(window, Side.SERVER, peer=peer, policy=policy, switch=config.switch, **link) as endpoint:
        pin(config.cpu)
        try:
            endpoint.recv_first()
            while True:
                endpoint.send_recv(0)
        except (ClosedError, PeerDiedError):
            pass


def _notify_client(switch: str, descriptors: socket.socket, server: int) -> dict[str, Any]:
    """What an endpoint needs for the notify switch, none for another; its other half sent to the server."""
    if switch != NOTIFY:
        return {}
    link = _notify_link().make(server)
    socket.send_fds(descriptors, [link.identity], list(link.descriptors()))
    link.sent()
    return {"notify": link}


def _notify_server(switch: str, descriptors: socket.socket, client: int) -> dict[str, Any]:
    if switch != NOTIFY:
        return {}
    identity, fds, _, _ = socket.recv_fds(descriptors, 64, 2)
    return {"notify": _notify_link().adopt(fds, identity, client)}


def _notify_link() -> Any:
    try:
        return importlib.import_module("flipcall.notify").NotifyLink
    except ImportError:
        raise UnavailableError("this build of flipcall has no switch notify") from None
