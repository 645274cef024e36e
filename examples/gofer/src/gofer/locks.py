"""The locks of a served tree, which hold what the protocol's table guarantees (protocol.Guarantee).

lisafs has one lock for the tree's shape (renameMu) and one for each node (opMu). So it is here:

                          tree      node (inode)
    read                  shared    shared
    write                 shared    alone
    global                alone     -
    by an open FID        -         shared or alone

Data does not care what its file is called, so operations by open FID leave the tree's lock alone: a read from a
disk that hangs holds up nothing but writers of that file, while a rename waits for a read operation only.

The *tree* lock is taken for every request and alone for renames only, so it is a lock for each thread: sharing
takes one's own, which nobody else touches; being alone takes all of them. The *node* locks are a fixed number,
shared by hash of the inode: two nodes with the same lock wait for one another needlessly, which costs a moment,
while a lock for each inode would have to be found and counted with each.

What is asked most (stat, read, walks in one system call) takes no lock at all while nothing changes. It looks
whether anything is being changed right now, does what it does, and looks whether anything has been changed since
(`generation`). If not, which is nearly always, the guarantee held; else it does it again, locking. (As a seqlock;
and as Linux's own path walk: rcu-walk first, then ref-walk.) So a walk need not lock each directory on the way.
Who changes sets `changing`, then counts; who looks reads the count, then `changing`: no change slips between.

                 generation == before, changing == 0
    look ──► do ──────────────────────────────────────► done
      │       │
      └───────┴──► lock ──► do ──► done

Order: the tree, then a node, then FID tables. Nobody holds a node's lock and takes another's, be it shared: two
nodes may have the same lock, and behind a waiting writer even a second sharing waits. `change` alone takes two, in
the order of their place in the table.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager

_NODES = 256


class NodeLock:
    """Shared by many or held by one; those who come first go first. `with lock.reading` or `with lock.writing`."""

    __slots__ = (
        "_empty", "_gate", "_mutex", "_readers", "changing", "generation", "place", "reading", "writing",
    )  # fmt: skip

    def __init__(self, place: int) -> None:
        self.place = place
        self.changing = False
        """A write operation holds it."""
        self.generation = 0
        """How many have."""
        self.reading = _Reading(self)
        self.writing = _Writing(self)
        self._gate = threading.Lock()  # everybody comes through; a writer stays in it
        self._empty = threading.Lock()  # held while there are readers, and by the writer
        self._mutex = threading.Lock()  # _readers
        self._readers = 0


class _Reading:
    __slots__ = ("_lock",)

    def __init__(self, lock: NodeLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        lock = self._lock
        with lock._gate, lock._mutex:
            lock._readers += 1
            if lock._readers == 1:
                lock._empty.acquire()  # at once: no writer has it, or it would be in the gate

    def __exit__(self, *exc: object) -> None:
        lock = self._lock
        with lock._mutex:
            lock._readers -= 1
            if lock._readers == 0:
                lock._empty.release()


class _Writing:
    __slots__ = ("_lock",)

    def __init__(self, lock: NodeLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        lock = self._lock
        lock._gate.acquire()
        lock._empty.acquire()
        lock.changing = True  # then the generation: see above
        lock.generation += 1

    def __exit__(self, *exc: object) -> None:
        lock = self._lock
        lock.changing = False
        lock._empty.release()
        lock._gate.release()


class _Here(threading.local):
    """The calling thread's part of the tree's lock."""

    def __init__(self, tree: Tree) -> None:
        self.lock = tree._join()


class Tree:
    """The locks of one exported tree, for all its sessions."""

    def __init__(self) -> None:
        self._nodes = [NodeLock(place) for place in range(_NODES)]
        self._joining = threading.Lock()  # _parts; held by whoever is alone, so that nobody new comes in
        self._parts: weakref.WeakSet[threading.Lock] = weakref.WeakSet()
        self._mutex = threading.Lock()  # changing, generation
        self.changing = 0
        """Operations that are changing a directory right now, or are alone."""
        self.generation = 0
        """How many have begun to."""
        self.here = _Here(self)
        """`with tree.here.lock` shares the tree."""

    def _join(self) -> threading.Lock:
        part = threading.Lock()
        with self._joining:
            self._parts.add(part)
        return part

    def node(self, dev: int, ino: int) -> NodeLock:
        """The lock of an inode."""
        return self._nodes[(ino ^ dev * 0x9E3779B1) % _NODES]

    @contextlib.contextmanager
    def change(self, directory: NodeLock, file: NodeLock | None = None) -> Iterator[None]:
        """Write of a directory: the tree shared and the node alone. With `file`, another node is shared, too."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.here.lock)
            holds: list[AbstractContextManager[None]] = [directory.writing]
            if file is not None and file is not directory:
                holds.insert(file.place > directory.place, file.reading)
            for hold in holds:
                stack.enter_context(hold)
            stack.enter_context(self._counted())
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Global: nobody shares the tree meanwhile."""
        with self._joining, contextlib.ExitStack() as stack:
            for part in list(self._parts):
                stack.enter_context(part)
            with self._counted():
                yield

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._mutex:
            self.changing += 1  # then the generation: see above
            self.generation += 1
        try:
            yield
        finally:
            with self._mutex:
                self.changing -= 1
