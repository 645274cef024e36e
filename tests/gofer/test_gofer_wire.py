"""Hostile requests as they come over the wire: wrong types, wrong numbers; the server goes on serving."""

from __future__ import annotations

import errno
import inspect
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from gofer_support import SECRET, Connect, descriptors, fails
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flipcall
from gofer.client import GoferClient
from gofer.export import Export
from gofer.protocol import WINDOW, Gofer, Place, table
from gofer.server import MAX_CHANNELS_PER_CLIENT, GoferServer
from tests.support import wait_until

METHODS = {name: len(inspect.signature(getattr(Gofer, name)).parameters) - 1 for name, *_ in table()}

anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(max_size=20),
        st.binary(max_size=300),
        st.builds(Place, st.integers(0, 2**63), st.binary(max_size=10)),
    ),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(sorted(METHODS)), data=st.data())
def test_any_arguments(connect: Connect, method: str, data: st.DataObject) -> None:
    """Arguments of any type are answered with an error of the call, and the same channel serves on."""
    arguments = [data.draw(anything) for _ in range(METHODS[method])]
    with connect() as client:
        call: Any = getattr(client.gofer, method)
        try:
            result = call(*arguments)
        except (OSError, flipcall.CallError, ValueError, TypeError):
            pass
        else:
            assert SECRET not in bytes(str(result), "utf-8", "surrogateescape")
        assert client.gofer.stat(client.root.fid).ino == client.root.stat.ino


def test_the_fid_limit_is_the_session_s(connect: Connect) -> None:
    """A client that hoards is stopped at its limit; another client of the same server is not."""
    with connect(max_fids=50) as greedy, connect(max_fids=50) as modest:
        for _ in range(49):  # and the root makes fifty
            greedy.gofer.walk(greedy.root.fid, [b"hello"])
        with fails(errno.EMFILE):
            greedy.gofer.walk(greedy.root.fid, [b"hello"])
        assert modest.read_bytes("hello") == b"hello, world\n"
        before = len(descriptors())
        greedy.close()
        wait_until(lambda: len(descriptors()) <= before - 49, what="the greedy one's descriptors are closed")
        assert modest.read_bytes("hello") == b"hello, world\n"


def test_a_message_has_a_limit(connect: Connect) -> None:
    """What is longer than any honest client's is refused before it is taken in, and the channel serves on."""
    with connect() as client, client.open_raw("hello", os.O_RDWR) as file:
        with pytest.raises(flipcall.CallError, match="RESOURCE_EXHAUSTED"):
            client.gofer.write(file.fid, 0, memoryview(bytes(2 * WINDOW)))
        assert file.pread(5, 0) == b"hello"


def test_one_client_does_not_have_all_channels(tree: Path, tmp_path: Path) -> None:
    """Its channels are limited, whatever it asks for; others still come in."""
    export = Export(tree)
    with GoferServer(export, str(tmp_path / "socket")) as server, ExitStack() as stack:
        for _ in range(MAX_CHANNELS_PER_CLIENT):
            stack.enter_context(GoferClient(server.path, window_size=8192))
        with pytest.raises(flipcall.CallError, match="RESOURCE_EXHAUSTED"):
            GoferClient(server.path, window_size=8192)
        script = "import sys; from gofer import GoferClient; print(GoferClient(sys.argv[1]).exists('hello'))"
        done = subprocess.run([sys.executable, "-c", script, server.path], capture_output=True, check=True)
        assert done.stdout == b"True\n"
    export.close()
