"""Hostile requests as they come over the wire: wrong types, wrong numbers; the server goes on serving."""

from __future__ import annotations

import errno
import inspect
from typing import Any

from gofer_support import SECRET, Connect, descriptors, fails
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flipcall
from gofer.protocol import Gofer, Place, table
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
