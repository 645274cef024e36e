"""Users and groups by the client's counting."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from gofer_support import fails, needs, walk
from hypothesis import given
from hypothesis import strategies as st
from pyprctl import Cap

from gofer.ids import IdMap, Ids, Range
from gofer.protocol import Owner, Place, SetStat
from gofer.session import Session


def test_ranges() -> None:
    """Both ways; what has no counterpart is nobody, or EINVAL."""
    ids = IdMap([Range.parse("0:1000"), Range.parse("1:100000:10")])
    assert [ids.to_server(number) for number in (0, 1, 10)] == [1000, 100000, 100009]
    assert [ids.to_client(number) for number in (1000, 100009, 0, 100010)] == [0, 10, 65534, 65534]
    for number in (11, -1, 1 << 32, 1 << 70):
        with fails(errno.EINVAL):
            ids.to_server(number)


@given(st.integers(0, 2**32 - 2))
def test_without_ranges_numbers_are_as_they_are(number: int) -> None:
    """And still 32 bits."""
    assert IdMap([]).to_server(number) == number == IdMap([]).to_client(number)
    with fails(errno.EINVAL):
        IdMap([]).to_server((1 << 32) - 1)


@pytest.mark.parametrize(
    "text", ["", "1", "1:2:3:4", "a:b", "-1:0", "0:0:0", "0:4294967295", "4294967290:0:10"]
)
def test_ranges_that_are_none(text: str) -> None:
    """ValueError says what is wrong."""
    with pytest.raises(ValueError, match=r"is not CLIENT:SERVER|numbers of users are"):
        Range.parse(text)


def test_overlapping_ranges() -> None:
    """Ambiguous either way."""
    for one, other in (("0:0:10", "9:100"), ("0:0:10", "100:9")):
        with pytest.raises(ValueError, match="overlap"):
            IdMap([Range.parse(one), Range.parse(other)])


@needs(Cap.CHOWN)
def test_served(make_session: Callable[..., Session], tree: Path) -> None:
    """Shown and set by the client's numbers; the files have the machine's; nobody gets nothing, not even made."""
    ids = Ids(IdMap([Range(0, 5000, 100)]), IdMap([Range(0, 6000, 100)]))
    session = make_session(ids=ids)
    root = session.mount().root
    assert (root.stat.uid, root.stat.gid) == (65534, 65534)
    made = session.mkdir(Place(root.fid, b"made"), 0o755, Owner(1, 2))
    assert (made.stat.uid, made.stat.gid) == (1, 2)
    assert ((tree / "made").stat().st_uid, (tree / "made").stat().st_gid) == (5001, 6002)
    done = session.set_stat(walk(session, root.fid, b"hello"), SetStat(uid=7))
    assert (done.stat.uid, done.stat.gid) == (7, 65534)
    assert (tree / "hello").stat().st_uid == 5007
    with fails(errno.EINVAL):
        session.mkdir(Place(root.fid, b"new"), 0o755, Owner(100, 0))
    assert not (tree / "new").exists()
    with fails(errno.EINVAL):
        session.set_stat(walk(session, root.fid, b"hello"), SetStat(mode=0o600, gid=100))
