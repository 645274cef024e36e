"""The FID table: pins, batches, limits, the end of a session, many threads."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest
from gofer_support import fails

from gofer.fids import FidTable, Kind
from gofer.locks import NodeLock

NODE = NodeLock(0)


def add(table: FidTable, kind: Kind = Kind.CONTROL) -> int:
    """One FID of /."""
    with table.batch(1) as new:
        return new.add(os.open("/", os.O_PATH), kind, stat.S_IFDIR, NODE)


def is_open(fd: int) -> bool:
    """Whether the descriptor is open."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_closed_fid_is_stale_for_ever() -> None:
    """After close, the number is EBADF and is not given out again."""
    table = FidTable(10)
    fid = add(table)
    table.close([fid])
    again = add(table)
    assert again != fid
    with fails(errno.EBADF):
        table.any(fid)
    with fails(errno.EBADF):
        table.close([fid])
    table.close_all()


def test_sessions_share_no_number() -> None:
    """A FID of one session is nothing in another."""
    one, two = FidTable(10), FidTable(10)
    fid = add(one)
    add(two)
    with fails(errno.EBADF):
        two.any(fid)
    one.close_all()
    two.close_all()


def test_kinds_are_not_interchangeable() -> None:
    """A control FID does not read; an open FID does not walk."""
    table = FidTable(10)
    control, opened = add(table), add(table, Kind.OPEN)
    with fails(errno.EBADF):
        table.opened(control)
    with fails(errno.EBADF):
        table.control(opened)
    table.close_all()


def test_close_while_pinned_keeps_the_descriptor() -> None:
    """The descriptor outlives its FID for as long as an operation holds it."""
    table = FidTable(10)
    fid = add(table)
    with table.control(fid) as handle:
        table.close([fid])
        assert is_open(handle.fd)
        with fails(errno.EBADF):
            table.control(fid)
    assert not is_open(handle.fd)


def test_close_all_while_pinned() -> None:
    """The end of the session waits for no operation, and takes no descriptor from one."""
    table = FidTable(10)
    fid = add(table)
    with table.control(fid) as handle:
        table.close_all()
        assert is_open(handle.fd)
    assert not is_open(handle.fd)


def test_a_failed_batch_leaves_nothing() -> None:
    """What a failing request made is closed, and its room is free again."""
    table = FidTable(2)
    fd = os.open("/", os.O_PATH)
    with pytest.raises(RuntimeError), table.batch(2) as new:  # noqa: PT012 - the batch is what is tested
        fid = new.add(fd, Kind.CONTROL, stat.S_IFDIR, NODE)
        with fails(errno.EBADF):
            table.any(fid)  # not visible before the batch is whole
        raise RuntimeError
    assert not is_open(fd)
    assert len(table) == 0
    add(table)
    add(table)
    table.close_all()


def test_a_batch_finished_after_the_end_is_closed() -> None:
    """An operation that outlives its session leaves no descriptor behind."""
    table = FidTable(2)
    with fails(errno.EBADF), table.batch(1) as new:
        fd = os.open("/", os.O_PATH)
        new.add(fd, Kind.CONTROL, stat.S_IFDIR, NODE)
        table.close_all()
    assert not is_open(fd)


def test_limit_counts_what_is_under_way() -> None:
    """EMFILE at the limit, reservations included; unused ones return."""
    table = FidTable(3)
    add(table)
    with table.batch(2), fails(errno.EMFILE):
        table.batch(1)
    fid = add(table)
    add(table)
    with fails(errno.EMFILE):
        table.batch(1)
    table.close([fid])
    add(table)
    table.close_all()


def test_close_goes_on_after_a_bad_one() -> None:
    """close_fids gives back all it can, then says EBADF."""
    table = FidTable(10)
    fids = [add(table) for _ in range(3)]
    with fails(errno.EBADF):
        table.close([fids[0], 12345, fids[0], fids[1], fids[2]])
    assert len(table) == 0


def test_many_threads_never_see_another_file(tmp_path: Path) -> None:
    """Threads that read FIDs as others close them get the right file's byte or EBADF, never another's."""
    table = FidTable(1000)
    shared: dict[int, bytes] = {}
    wrong: list[str] = []
    for number in range(4):
        (tmp_path / str(number)).write_bytes(b"%d" % number)

    def run(number: int) -> None:
        content = b"%d" % number
        for _ in range(1500):
            with table.batch(1) as new:
                fid = new.add(os.open(tmp_path / str(number), os.O_RDONLY), Kind.OPEN, stat.S_IFREG, NODE)
            shared[fid] = content
            for other, expected in list(shared.items())[:3]:
                try:
                    pinned = table.opened(other)
                except OSError:
                    continue  # its owner has closed it since we looked
                with pinned as handle:
                    if os.pread(handle.fd, 1, 0) != expected:
                        wrong.append("another file's bytes")
            if shared.pop(fid, None) is not None:
                table.close([fid])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    table.close_all()
    assert not wrong
    assert not shared, "a thread died"
