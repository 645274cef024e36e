"""Path resolution against the kernel's own: openat2 with RESOLVE_IN_ROOT is what the client must agree with."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gofer import syscalls
from gofer.export import Export
from gofer.resolve import Resolver
from gofer.session import Session

_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10

pieces = st.sampled_from(
    [
        b"a",
        b"b",
        b"c",
        b"f",
        b".",
        b"..",
        b"",
        b"up",
        b"abs",
        b"rel",
        b"loop",
        b"chain",
        b"gone",
        b"x",
        b"tofile",
    ]
)
paths = st.builds(
    lambda lead, middle, tail: lead + b"/".join(middle) + tail,
    st.sampled_from([b"", b"/"]),
    st.lists(pieces, min_size=1, max_size=8),
    st.sampled_from([b"", b"", b"/", b"/."]),
)


@pytest.fixture
def maze(tmp_path: Path) -> Path:
    """Directories and links that lead up, round and out."""
    top = tmp_path / "maze"
    (top / "a" / "b" / "c").mkdir(parents=True)
    for directory in (top, top / "a", top / "a/b", top / "a/b/c"):
        (directory / "f").touch()
        for name, target in {
            "up": "..",
            "abs": "/a/b",
            "rel": "../a/./b",
            "loop": "loop",
            "chain": "rel/up",
            "gone": "nothing/x",
            "tofile": "f",
        }.items():
            os.symlink(target, directory / name)
    (tmp_path / "a").mkdir()  # outside, where a link that got out would arrive
    (tmp_path / "f").touch()
    return top


@pytest.fixture
def resolver(maze: Path, direct: None) -> Iterator[Resolver]:
    """A resolver on a session that is called directly, two names a walk, so that long paths need several."""
    export = Export(maze)
    session = Session(export)
    yield Resolver(session, session.mount().root, 2, session.close_fids)
    assert len(session._fids) == 1, "resolving left FIDs behind"
    session.on_disconnect()
    export.close()


def kernel(root: int, path: bytes, follow: bool) -> int:
    """The inode number the kernel finds, or minus the errno."""
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    how = syscalls._OpenHow(flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    # EAGAIN: a rename or mount anywhere on the machine went on meanwhile (openat2(2)); ask again.
    while (
        fd := syscalls._syscall(syscalls._OPENAT2, root, path, ctypes.addressof(how), ctypes.sizeof(how))
    ) < 0:
        if ctypes.get_errno() != errno.EAGAIN:
            return -ctypes.get_errno()
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=paths, follow=st.booleans())
def test_same_as_the_kernel(resolver: Resolver, maze: Path, path: bytes, follow: bool) -> None:
    """Any path leads to the same inode as for a process confined to the tree, or to the same errno."""
    root = os.open(maze, os.O_PATH)
    try:
        expected = kernel(root, path, follow)
    finally:
        os.close(root)
    try:
        with resolver.resolve(path, follow=follow) as found:
            mine = found.inode.stat.ino
    except OSError as error:
        mine = -(error.errno or 0)
    assert mine == expected, (path, mine, expected)
