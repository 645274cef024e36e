"""The table's guarantees are held: each operation waits for what may not run beside it, and for nothing else."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from gofer_support import plant, walk

import flipcall
from gofer.locks import NodeLock, Tree, _Here
from gofer.protocol import Guarantee, Owner, Place, SetStat, table
from gofer.session import Session
from tests.support import wait_until

TABLE = {name: row.guarantee for name, row, _ in table()}
BY_OPEN_FID = {
    "read",
    "write",
    "seek",
    "fallocate",
    "flush",
    "fsync",
    "getdents",
    "donate",
    "listen",
    "accept",
}
ME = Owner(os.geteuid(), os.getegid())


class Watched:
    """A lock that counts who has come to it and not yet got it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting = 0

    def acquire(self) -> bool:
        """As a lock's; counted while it takes."""
        self.waiting += 1
        try:
            return self._lock.acquire()
        finally:
            self.waiting -= 1

    def release(self) -> None:
        """As a lock's."""
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


def watch(tree: Tree, node: NodeLock) -> list[Watched]:
    """Have the locks of a node and of the tree count; every thread gets the same part of the tree's."""
    gate, empty, part, joining = Watched(), Watched(), Watched(), Watched()
    for owner, name, lock in ((node, "_gate", gate), (node, "_empty", empty), (tree, "_joining", joining)):
        setattr(owner, name, lock)

    def join() -> Watched:
        with joining:
            tree._parts.add(part)  # type: ignore[arg-type]
        return part

    tree._join = join  # type: ignore[method-assign,assignment]
    tree.here = _Here(tree)
    return [gate, empty, part, joining]


class Row:
    """An operation with arguments of its own, and the node its guarantee is about."""

    def __init__(self, session: Session, root: int, name: str) -> None:
        self.session = session
        control = walk(session, root, b"hello")
        opened = session.open(control, os.O_RDWR).fid
        directory = walk(session, root, b"dir")
        listed = session.open(directory, os.O_RDONLY).fid
        link = walk(session, root, b"link")
        service = walk(session, root, b"socket")
        here = Place(directory, b"new")
        arguments: dict[str, tuple[int, tuple[Any, ...]]] = {
            "mount": (root, ()),
            "walk": (directory, (directory, [b"deep"])),
            "walk_stat": (directory, (directory, [b"deep"], True)),
            "stat": (control, (control,)),
            "statfs": (control, (control,)),
            "readlink": (link, (link,)),
            "open": (control, (control, os.O_RDONLY)),
            "create": (directory, (here, os.O_RDWR, 0o600, ME)),
            "close_fids": (control, ([],)),
            "read": (opened, (opened, 0, 10)),
            "write": (opened, (opened, 0, memoryview(b"x"))),
            "seek": (opened, (opened, 0, os.SEEK_DATA)),
            "fallocate": (opened, (opened, 0, 0, 10)),
            "flush": (opened, (opened,)),
            "fsync": (opened, ([opened], False)),
            "getdents": (listed, (listed, 0, 4096, True)),
            "walk_look": (directory, (directory, [], b"x")),
            "set_stat": (control, (control, SetStat(mode=0o600))),
            "mkdir": (directory, (here, 0o700, ME)),
            "mknod": (directory, (here, 0o010600, ME)),
            "symlink": (directory, (here, b"x", ME)),
            "link": (directory, (control, here)),
            "unlink": (directory, (Place(directory, b"gone"), False)),
            "rename": (directory, (Place(directory, b"gone"), here, 0)),
            "get_xattr": (control, (control, b"user.x")),
            "set_xattr": (control, (control, b"user.x", b"y", 0)),
            "list_xattr": (control, (control,)),
            "remove_xattr": (control, (control, b"user.x")),
            "donate": (opened, (opened,)),
            "connect": (service, (service, socket.SOCK_STREAM)),
            "bind": (directory, (here, socket.SOCK_STREAM, 0o700, ME)),
        }
        if name in ("listen", "accept"):
            bound = session.bind(here, socket.SOCK_STREAM, 0o700, None)
            bound.host.close()
            arguments |= {"listen": (bound.bound, (bound.bound, 1)), "accept": (bound.bound, (bound.bound,))}
        fid, self.arguments = arguments[name]
        self.call: Callable[..., object] = getattr(session, name)
        with session._fids.any(fid) as handle:
            self.node = handle.node
        self.watched = watch(session._tree, self.node)
        self.ended = False

    def run(self) -> None:
        """The call; what it gives does not matter here."""
        try:
            given: Any = self.call(*self.arguments)
            for owned in (given, getattr(given, "host", None)):
                if isinstance(owned, flipcall.Fd):
                    owned.close()
        except OSError:
            pass
        finally:
            self.ended = True

    def waits_for(self, held: AbstractContextManager[Any]) -> bool:
        """Whether the operation waits while `held` is."""
        thread = threading.Thread(target=self.run)
        with held:
            thread.start()
            wait_until(
                lambda: self.ended or any(one.waiting for one in self.watched), what="it ends, or waits"
            )
            waited = not self.ended
        thread.join()
        return waited


# These pass several nodes, and are walks: test_gofer_races.py attacks them.
@pytest.mark.parametrize("name", sorted(set(TABLE) - {"walk_open", "walk_list", "walk_lists", "walk_read"}))
def test_waits_for_what_may_not_run_beside_it(
    make_session: Callable[..., Session], tmp_path: Path, name: str
) -> None:
    """Beside a write of its node, a read of it, a global operation, and a write of another node."""

    def row(number: int) -> Row:
        (tmp_path / str(number)).mkdir()
        top = plant(tmp_path / str(number))
        (top / "dir" / "gone").touch()
        os.mknod(top / "socket", 0o140600)
        session = make_session(top, donate=True, sockets=True)
        return Row(session, session.mount().root.fid, name)

    guarantee = TABLE[name]
    one = row(1)
    assert one.waits_for(one.node.writing) is (guarantee in (Guarantee.READ, Guarantee.WRITE))
    one = row(2)
    assert one.waits_for(one.node.reading) is (guarantee is Guarantee.WRITE)
    one = row(3)
    expected = (
        guarantee is not Guarantee.NONE and name not in BY_OPEN_FID
    )  # data has nothing to do with names
    assert one.waits_for(one.session._tree.alone()) is expected
    if guarantee is Guarantee.GLOBAL:
        one = row(4)
        other = next(node for node in one.session._tree._nodes if node is not one.node)
        assert one.waits_for(one.session._tree.change(other))


def test_a_slow_fsync_holds_up_nothing(session: Session, root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a disk takes its time, the same file is looked at, read, written, renamed."""
    control = walk(session, root, b"hello")
    opened = session.open(control, os.O_RDWR).fid
    started, let_go = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        started.set()
        assert let_go.wait(20)

    monkeypatch.setattr(os, "fsync", slow)
    thread = threading.Thread(target=session.fsync, args=([opened], False))
    thread.start()
    try:
        assert started.wait(20)
        session.stat(control)
        session.write(opened, 0, memoryview(b"H"))
        assert bytes(session.read(opened, 0, 1)) == b"H"
        session.rename(Place(root, b"hello"), Place(root, b"renamed"), 0)
        assert session.walk_stat(root, [b"renamed"], False).walked == 1
    finally:
        let_go.set()
        thread.join()


def test_readers_share_and_writers_do_not() -> None:
    """The node lock itself, in many threads: never two writers, never a writer and a reader."""
    lock = NodeLock(0)
    inside = {"read": 0, "write": 0}
    counting = threading.Lock()
    wrong: list[dict[str, int]] = []

    def run(kind: str, hold: AbstractContextManager[None]) -> None:
        for _ in range(300):
            with hold:
                with counting:
                    inside[kind] += 1
                    if inside["write"] > 1 or (inside["write"] and inside["read"]):
                        wrong.append(dict(inside))
                with counting:
                    inside[kind] -= 1

    threads = [threading.Thread(target=run, args=("read", lock.reading)) for _ in range(3)]
    threads += [threading.Thread(target=run, args=("write", lock.writing)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_tree_is_shared_and_had_alone() -> None:
    """The tree's lock in many threads, new ones among them: whoever is alone is alone."""
    tree = Tree()
    inside = {"shared": 0, "alone": 0}
    counting = threading.Lock()
    wrong: list[dict[str, int]] = []

    def visit(kind: str, hold: AbstractContextManager[Any]) -> None:
        with hold:
            with counting:
                inside[kind] += 1
                if inside["alone"] > 1 or (inside["alone"] and inside["shared"]):
                    wrong.append(dict(inside))
            with counting:
                inside[kind] -= 1

    def share() -> None:
        for _ in range(20):
            visit("shared", tree.here.lock)

    def alone() -> None:
        for _ in range(20):
            visit("alone", tree.alone())

    for _ in range(10):
        threads = [threading.Thread(target=target) for target in (share, share, share, alone, alone)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert len(tree._parts) == 1, "the parts of threads that have ended are still there"
