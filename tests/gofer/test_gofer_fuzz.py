"""Requests nobody would write: any operation with any numbers and any names."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from gofer_support import CLIMBING, SECRET, plant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.gofer.export import Export
from examples.gofer.protocol import Place
from examples.gofer.session import Session

numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1), st.integers(-3, 70_000), st.sampled_from([4096, 2**31, 2**63 - 1])
)
odd_names = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(
        [*CLIMBING, b"hello", b"dir", b"deep", b"file", b"link", b"out", b"up", b"fifo", b"secret"]
    ),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_request_is_answered(direct: None, data: st.DataObject) -> None:
    """Whatever is asked, the answer is a result or an OSError, at once; outside, nothing has changed."""
    with tempfile.TemporaryDirectory() as directory:
        tree = plant(Path(directory))
        export = Export(tree)
        session = Session(export)
        try:
            _ask(session, data)
        finally:
            session.on_disconnect()
            export.close()
        assert (tree.parent / "secret").read_bytes() == SECRET
        assert sorted(os.listdir(directory)) == ["secret", "tree"]


def _ask(session: Session, data: st.DataObject) -> None:
    """A few requests, drawn from `data`."""
    root = session.mount().root.fid
    fids = [
        root,
        *(inode.fid for inode in session.walk(root, [b"dir", b"deep"]).inodes),
        session.open(root, 0),
    ]
    for name in (b"hello", b"link", b"out", b"fifo"):
        fids += [inode.fid for inode in session.walk(root, [name]).inodes]
    fid = st.one_of(st.sampled_from(fids), numbers)
    place = st.builds(Place, fid, odd_names)
    walks = st.lists(odd_names, max_size=5)
    requests: dict[Callable[..., object], list[st.SearchStrategy[object]]] = {
        session.walk: [fid, walks],
        session.walk_stat: [fid, walks],
        session.stat: [fid],
        session.readlink: [fid],
        session.open: [fid, numbers],
        session.create: [place, numbers, numbers],
        session.read: [fid, numbers, numbers],
        session.write: [fid, st.integers(-(2**63), 2**20), st.just(memoryview(b"data"))],
        session.getdents: [fid, numbers, numbers, st.booleans()],
        session.mkdir: [place, numbers],
        session.unlink: [place, st.booleans()],
        session.rename: [place, place],
        session.fsync: [st.lists(fid, max_size=3), st.booleans()],
        session.close_fids: [st.lists(fid, max_size=3)],
    }
    for _ in range(5):  # one that hangs is ended by the test's timeout
        operation = data.draw(st.sampled_from(sorted(requests, key=lambda method: method.__name__)))
        arguments = [data.draw(strategy) for strategy in requests[operation]]
        with contextlib.suppress(OSError):
            result = operation(*arguments)
            assert not (isinstance(result, memoryview) and SECRET in bytes(result))
