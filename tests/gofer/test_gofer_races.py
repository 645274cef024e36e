"""What another process does to the tree meanwhile, and what a session's own channels do to each other."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gofer_support import SECRET, create, opened, walk

from gofer.protocol import Place
from gofer.session import Session

SECONDS = float(os.environ.get("GOFER_ATTACK_SECONDS", "4")) / 4
"""How long each attack goes on; `make stress` says 30 for all of them."""


def test_symlink_swap_race(session: Session, root: int, tree: Path) -> None:
    """While a directory is swapped for a link that leads out, no walk ever gets out."""
    (tree / "target").mkdir()
    (tree / "target" / "secret").write_bytes(b"inside")
    os.symlink("..", tree / "evil")
    with swapping(tree / "target", tree / "evil"):
        seen = attack(session, root, [b"target", b"secret"])
    assert seen <= {b"inside"}
    assert b"inside" in seen, "the attack never got through to the file: it proved nothing"


def test_file_swap_race(session: Session, root: int, tree: Path) -> None:
    """The same with the last name: a file swapped for a link to the secret."""
    (tree / "target").write_bytes(b"inside")
    os.symlink("../secret", tree / "evil")
    with swapping(tree / "target", tree / "evil"):
        seen = attack(session, root, [b"target"])
    assert seen <= {b"inside"}
    assert b"inside" in seen


def test_rename_race(session: Session, root: int, tree: Path) -> None:
    """While the middle of a path moves about, a walk ends beneath the root or nowhere."""
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "secret").write_bytes(b"inside")
    (tree / "c").mkdir()

    def move() -> None:
        os.rename(tree / "a/b", tree / "c/b")
        os.rename(tree / "c/b", tree / "a/b")

    with repeating(move):
        seen = attack(session, root, [b"a", b"b", b"secret"])
    assert seen <= {b"inside"}
    assert b"inside" in seen


def test_writing_race(session: Session, root: int, tree: Path) -> None:
    """While a directory is swapped for a link to one outside, nothing is ever made, moved or removed there."""
    outside = tree.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(SECRET)
    (tree / "target").mkdir()
    (tree / "precious").touch()
    os.symlink("../outside", tree / "evil")
    done = 0
    end = time.monotonic() + SECONDS
    with swapping(tree / "target", tree / "evil"):
        while time.monotonic() < end:
            [inode] = session.walk(root, [b"target"]).inodes
            at = Place(inode.fid, b"new")
            with contextlib.suppress(OSError):
                session.close_fids([session.mkdir(at, 0o755, None).fid])
                session.unlink(at, True)
                created = session.create(at, os.O_RDWR, 0o644, None)
                session.close_fids([created.opened, created.inode.fid])
                session.link(walk(session, root, b"precious"), Place(inode.fid, b"precious"))
                session.rename(at, Place(root, b"moved"), 0)
                session.unlink(Place(inode.fid, b"precious"), False)
                session.unlink(Place(root, b"moved"), False)
                done += 1
            session.close_fids([inode.fid])
            assert os.listdir(outside) == ["precious"]
            if len(session._fids) > 1000:
                session.close_fids([fid for fid in session._fids._handles if fid != root])
    assert (outside / "precious").read_bytes() == SECRET
    assert done, "nothing was ever written: the attack proved nothing"


def attack(session: Session, root: int, names: list[bytes], seconds: float = SECONDS) -> set[bytes]:
    """Walk and read for a while; everything that was read."""
    seen: set[bytes] = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        walked = session.walk(root, names)
        fids = [inode.fid for inode in walked.inodes]
        if len(walked.inodes) == len(names) and stat.S_ISREG(walked.inodes[-1].stat.mode):
            fid = session.open(fids[-1], os.O_RDONLY).fid
            seen.add(bytes(session.read(fid, 0, 100)))
            fids.append(fid)
        assert SECRET not in seen
        with contextlib.suppress(OSError):
            fids.append(session.walk_open(root, names, os.O_RDONLY, 0).fid)
            seen.add(bytes(session.read(fids[-1], 0, 100)))
        session.close_fids(fids)
        seen |= look_together(session, root, names[:-1], names[-1])
        assert SECRET not in seen
        for told in session.walk_stat(root, names, False).stats:
            assert told.size != len(SECRET), "looked at the secret"
        for told in session.walk_stat(root, names, True).stats[len(names) - 1 :]:
            assert told.size != len(SECRET), "looked at the secret"
    return seen


def look_together(session: Session, root: int, way: list[bytes], name: bytes) -> set[bytes]:
    """What the operations that make no FID tell of a name; everything that was read in its place."""
    with contextlib.suppress(OSError):  # a link was in the way
        found = session.walk_look(root, way, name).found
        assert found is None or found.size != len(SECRET), "looked at the secret"
        for listed in [
            session.walk_list(root, way, 8192, 1000),
            *session.walk_lists(root, way, [name], 8192, 1000),
        ]:
            assert listed is None or SECRET not in listed.contents
        return {content.data for content in session.walk_read(root, way, [name], 1000) if content is not None}
    return set()


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Another thread exchanges two names (RENAME_EXCHANGE: there is never neither) as fast as it can."""
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    with repeating(lambda: renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2)):
        yield


@contextlib.contextmanager
def repeating(action: Callable[[], object]) -> Iterator[None]:
    """Another thread does this all the time."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            action()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_concurrent_operations_on_one_session(session: Session, root: int, tree: Path) -> None:
    """Channels of one session work at the same time: every read is whole, every listing complete."""
    for number in range(50):
        create(session, root, b"f%d" % number, b"%d" % number * 1000)
    expected = sorted(os.listdir(os.fsencode(tree)))
    directory = session.open(root, os.O_RDONLY).fid  # shared: its position must not be
    failures: list[BaseException] = []

    def run() -> None:
        try:
            for number in range(150):
                fid = opened(session, root, b"f%d" % (number % 50))
                assert bytes(session.read(fid, 0, 1 << 16)) == b"%d" % (number % 50) * 1000
                session.close_fids([fid])
                if number % 10 == 0:
                    found: list[bytes] = []
                    cookie, end = 0, False
                    while not end:
                        dents = session.getdents(directory, cookie, 600, False)
                        found += [dent.name for dent in dents.entries]
                        cookie, end = dents.next, dents.end
                    assert sorted(found) == expected
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
