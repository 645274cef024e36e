"""Requests nobody would write: any operation with any numbers and any names."""

from __future__ import annotations

import contextlib
import os
import tempfile
import typing
from pathlib import Path

from gofer_support import CLIMBING, SECRET, plant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flipcall
from gofer.export import Export
from gofer.protocol import Gofer, Owner, Place, SetStat, table
from gofer.session import Session

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
        export = Export(tree, donate=True, sockets=True)
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
        session.open(root, 0).fid,
    ]
    for name in (b"hello", b"link", b"out", b"fifo"):
        fids += [inode.fid for inode in session.walk(root, [name]).inodes]
    fid = st.one_of(st.sampled_from(fids), numbers)
    maybe = st.none() | numbers
    strategies: dict[object, st.SearchStrategy[object]] = {
        "fid": fid,
        "fids": st.lists(fid, max_size=3),
        "names": st.lists(odd_names, max_size=5),
        "files": st.lists(odd_names, max_size=5),
        "directories": st.lists(odd_names, max_size=5),
        "name": st.one_of(odd_names, st.sampled_from([b"user.x", b"user.", b"security.capability"])),
        "length": st.integers(-(2**63), 70_000),  # of what exists, for nobody wants a disk filled
        int: numbers,
        bool: st.booleans(),
        bytes: odd_names,
        memoryview: st.just(memoryview(b"data")),
        Place: st.builds(Place, fid, odd_names),
        Owner | None: st.none() | st.builds(Owner, numbers, numbers),
        SetStat: st.builds(SetStat, maybe, maybe, maybe, maybe, maybe, maybe),
    }
    for _ in range(5):  # one that hangs is ended by the test's timeout
        name = data.draw(st.sampled_from([name for name, *_ in table() if name != "mount"]))
        hints = typing.get_type_hints(getattr(Gofer, name))
        hints.pop("return")
        arguments = [data.draw(strategies[key if key in strategies else hint]) for key, hint in hints.items()]
        with contextlib.suppress(OSError):
            result = getattr(session, name)(*arguments)
            for owned in (result, getattr(result, "host", None)):
                if isinstance(owned, flipcall.Fd):
                    owned.close()
            assert SECRET not in bytes(str(result), "utf-8", "surrogateescape")
