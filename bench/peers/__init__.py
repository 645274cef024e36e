"""The ways a call can take, flipcall's among them: one module a way, one interface for all (base.py)."""

from __future__ import annotations

import importlib

from bench.peers.base import Peer

# By the name of the row's transport: module and class. A module is imported when it is asked for, for what it
# needs may be missing, and takes its time.
_CLASSES = {
    "flipcall": ("library", "Window"),
    "flipcall-split": ("library", "Split"),
    "socket": ("library", "Socket"),
    "grpc": ("grpcio", "Grpc"),
    "iceoryx2": ("iceoryx", "Iceoryx"),
    "busy-ring": ("ring", "BusyRing"),
    "vllm-ring": ("vllm_ring", "VllmRing"),
    "zmq": ("zeromq", "ZeroMq"),
    "pipe": ("pipe", "Pipe"),
}
PEERS = tuple(name for name in _CLASSES if name != "flipcall-split")  # which is for bulk alone


def peer_named(name: str) -> Peer:
    """The peer of that name. Raises UnavailableError, with the reason, where it cannot run."""
    module, kind = _CLASSES[name]
    peer: Peer = getattr(importlib.import_module(f"bench.peers.{module}"), kind)()
    peer.require()
    return peer
