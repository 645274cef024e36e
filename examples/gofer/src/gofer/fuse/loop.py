"""The loop that pyfuse3's session runs in: one descriptor, one thread, no scheduler.

pyfuse3 is written for trio, and lets another library take trio's place (pyfuse3.asyncio does). Of either it asks
for little: wait until the session's descriptor is readable, a lock around that, tasks so that a second request
can be read while the first waits for something. But each request goes through the whole of it: two rounds of the
scheduler, an epoll_ctl, an epoll_wait. That is 60 µs of the 93 that a stat(2) takes on a plain passthrough file
system here; the handler itself takes 3 (docs/gofer-mount.md has the table).

A handler of this mount waits for the gofer where it stands, and suspends only for what is given to another thread
(fsync). So the task that read the last request nearly always reads the next, and all that is needed between the
two is a poll(2):

    task A:  ── poll ── request ── answer ── poll ── request ── fsync: suspended ·············· answer ──
    task B:  ······· waits for the lock ······································└─ poll ── request ── answer ──

Rejected: threads that each read requests (pyfuse3 keeps what it is doing in globals).
"""

from __future__ import annotations

import os
import select
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pyfuse3

T = TypeVar("T")
Task = Coroutine[Any, Any, Any]
Register = Callable[[Task], None]
"""Told which task has suspended itself; sees to it that it goes on some time."""

_THREADS = 8
"""How many fsyncs may be under way."""


@types.coroutine
def _suspended(register: Register) -> Generator[Register, Any, Any]:
    """Suspend the task; what it is resumed with."""
    return (yield register)


class ClosedResourceError(Exception):
    """The descriptor is about to be closed. (pyfuse3 catches it by this name.)"""


class Loop:
    """Runs tasks. All methods are for its thread, but `notify_closing`, which a signal handler may call, too.

    A context manager: in its block, this is what pyfuse3 runs in.
    """

    def __init__(self, idle: Callable[[], None], idle_s: float) -> None:
        """`idle` is called when nothing has happened for `idle_s` seconds."""
        self._idle = idle
        self._idle_ms = int(idle_s * 1000)
        self._ready: deque[tuple[Task, Any]] = deque()
        self._tasks = 0
        self._locks: list[Lock] = []
        self._closing = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._reads = -1
        self._done: deque[tuple[Task, Future[Any]]] = deque()
        self._threads = ThreadPoolExecutor(_THREADS, "gofer-mount")
        # What pyfuse3 takes for the module trio.
        self.lowlevel = self
        self.ClosedResourceError = ClosedResourceError

    def __enter__(self) -> Loop:
        self._before: Any = pyfuse3.trio  # type: ignore[attr-defined]
        pyfuse3.trio = self  # type: ignore[attr-defined]
        return self

    def __exit__(self, *exc: object) -> None:
        pyfuse3.trio = self._before  # type: ignore[attr-defined]
        self._threads.shutdown()
        os.close(self._wake)

    def run(self, main: Callable[[], Task]) -> None:
        """Run `main` and the tasks it starts to their end."""
        self.start(main())
        while self._tasks:
            if not self._ready:
                self._wait()
                continue
            task, value = self._ready.popleft()
            try:
                register = task.send(value)
            except StopIteration:
                self._tasks -= 1
            else:
                register(task)

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """What the function gives, called on another thread; other tasks run meanwhile."""

        def submit(task: Task) -> None:
            future = self._threads.submit(function, *args)
            future.add_done_callback(lambda done: self._finished(task, done))

        done: Future[T] = await _suspended(submit)
        return done.result()

    def _finished(self, task: Task, done: Future[Any]) -> None:
        self._done.append((task, done))
        os.eventfd_write(self._wake, 1)

    def start(self, task: Task) -> None:
        """Run a task, too: it begins when the one that runs now suspends itself or has ended."""
        self._tasks += 1
        self._ready.append((task, None))

    def _wait(self) -> None:
        """No task can go on: until one can."""
        for lock in self._locks:
            if lock.pass_on():
                return
        self._look(None)

    def _look(self, timeout_ms: int | None) -> bool:
        """Wait for something to happen; whether the session's descriptor is readable."""
        events = self._poll.poll(self._idle_ms if timeout_ms is None else timeout_ms)
        if not events:
            self._idle()
        readable = False
        for fd, _ in events:
            if fd == self._wake:
                os.eventfd_read(self._wake)
                while self._done:
                    self._ready.append(self._done.popleft())
            else:
                readable = True
        return readable

    # ---- what pyfuse3 asks of trio -------------------------------------------------------------------

    async def wait_readable(self, fd: int) -> None:
        """Until `fd` is readable; always the same one."""
        if self._reads != fd:
            self._reads = fd
            self._poll.register(fd, select.POLLIN)
        while not self._closing:
            if self._ready:  # let the others get to where they wait
                await _suspended(lambda task: self._ready.append((task, None)))
            elif self._look(None):
                return
        raise ClosedResourceError

    def notify_closing(self, fd: int) -> None:
        """Whoever waits for `fd` is to give up."""
        self._closing = True
        os.eventfd_write(self._wake, 1)

    def Lock(self) -> Lock:
        """A lock of this loop's tasks."""
        lock = Lock(self._ready)
        self._locks.append(lock)
        return lock

    def open_nursery(self) -> Nursery:
        """A group of tasks."""
        return Nursery(self.start)

    def current_trio_token(self) -> None:
        """Nobody calls into this loop from other threads."""

    def current_task(self) -> types.SimpleNamespace:
        """Asked for its name alone, for the log."""
        return types.SimpleNamespace(name="gofer-mount")


class Lock:
    """Whose holder gives it up and takes it again without a turn of the others, until it suspends itself."""

    def __init__(self, ready: deque[tuple[Task, Any]]) -> None:
        self._ready = ready
        self._held = False
        self._waiting: deque[Task] = deque()

    async def __aenter__(self) -> None:
        while self._held:
            await _suspended(self._waiting.append)
        self._held = True

    async def __aexit__(self, *exc: object) -> None:
        self._held = False

    def pass_on(self) -> bool:
        """Nobody else can go on: whether one who waits for the lock can."""
        if self._held or not self._waiting:
            return False
        self._ready.append((self._waiting.popleft(), None))
        return True


class Nursery:
    """Tasks that pyfuse3 starts. That all of them end is Loop.run's business."""

    def __init__(self, start: Callable[[Task], None]) -> None:
        self._start = start

    def start_soon(self, function: Callable[..., Task], *args: Any, name: str | None = None) -> None:
        """Start a task."""
        self._start(function(*args))

    async def __aenter__(self) -> Nursery:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass
