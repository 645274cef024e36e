"""A visible skip where the kernel has no hand-over by notification, and the two children most tests need."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from flipcall import kernel
from tests.support import Child, child

Pair = Callable[..., tuple[Child, Child]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    feature = kernel.seccomp_notify_sync_wake()
    if not feature.available:
        for item in items:
            if "tests/notify" in str(item.path):
                item.add_marker(pytest.mark.skip(reason=f"no notify switch here: {feature.reason}"))


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Start a client and a server in children of their own, each running a snippet in which `ep` is its endpoint,
    not yet connected, and `sock` the socket between them. before: what the client does first of all.
    """
    with ExitStack() as stack:

        def start(client: str, server: str, before: str = "") -> tuple[Child, Child]:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                made = []
                for sock, side, code in ((ours, "client", client), (theirs, "server", server)):
                    begin = before if side == "client" else ""
                    begin += "from tests.notify.sides import *\n"
                    begin += f"sock, ep, link = {side}({sock.fileno()})\n"
                    made.append(stack.enter_context(child(_plain(begin, code), pass_fds=[sock.fileno()])))
            return made[0], made[1]

        yield start


def _plain(begin: str, code: str) -> str:
    import textwrap

    return begin + textwrap.dedent(code)
