"""Workers: several processes serve at one socket, and one, the dispatcher, hands connections out to them.

    dispatcher: the process that made the Server. Its watcher accepts (watcher.py), hand_out() chooses a worker
    and passes the connection on with SCM_RIGHTS (handover.py). It touches no call: those are between client and
    worker.

    a worker:  STARTING ──ready──► SERVING ──told to end by others──► LEAVING ──► gone
                   │                  │ killed, crashed                            ▲
                   └──────────────────┴────────────────────────────────────────────┘
    Its place is filled again when it is LEAVING or gone: at once, or, when workers keep dying young, after a pause
    that doubles with each death up to half a minute.

Who gets a connection: of the workers that listen, the one with the fewest channels, in turn among equals. Where
each client has an implementation of its own (Server's implementation is a factory), the worker that has this
client's other channels: tokens of one worker mean nothing to another. What makes a client is what makes it one to
sessions (session.py): process and user.

Rejected: one listening socket that all workers accept from. The kernel wakes them all or the same one always,
and a further channel of a session lands anywhere; it had to be passed on by a worker that does not want it.
Rejected, too: reading the token from the handshake to choose by: the dispatcher would wait for slow clients.
"""

import logging
import multiprocessing
import os
import queue
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from .admission import refuse
from .errors import CallError, FlipcallError, MisuseError
from .handover import PATIENCE_S, Word, collect, hear, pair, say, say_at_length
from .limits import Client, Places, client_of
from .liveness import Peer
from .status import Status
from .survey import Asked, Surveys
from .worker import Worker, WorkerState

StartMethod = Literal["spawn", "fork", "forkserver"]

_START_S = 30.0  # for a worker to begin: it imports the program
_YOUNG_S = 1.0  # a worker that dies younger than this, or before it serves, is not replaced at once
_PAUSE_S = 0.1  # after the first such death
_PAUSE_MOST_S = 30.0
_LETTING_GO_S = 2.0  # beyond the grace, for what a worker does after draining

_log = logging.getLogger("flipcall")


class Crew:
    """The workers of a server.

    work(lane, *recipe): what a worker runs, with its end of the pair; a function of a module, and a recipe, that
    the start method can bring into the process. sticky: a client's channels go to one worker.
    accepting: whoever takes a connection from the listener holds it, so that no worker is forked in that moment:
    its copy of the connection would hide the end of it.
    """

    def __init__(
        self,
        count: int,
        method: StartMethod,
        work: Callable[..., None],
        recipe: tuple[Any, ...],
        places: Places,
        sticky: bool,
    ) -> None:
        self._context: Any = multiprocessing.get_context(method)
        self._count = count
        self._work = work
        self._recipe = recipe
        self._places = places
        self._sticky = sticky
        self.accepting = threading.Lock()
        self._lock = threading.Lock()  # everything below
        self._workers: list[Worker] = []  # in the order of their turn
        self._surveys = Surveys()
        self._coming: socket.socket | None = None  # the lane of a worker that is being started
        self._deaths = 0  # of young ones, in a row
        self._due = 0.0  # when the next may be started
        self._stopping = False
        self._changed = threading.Condition(self._lock)
        self._poll: select.epoll | None = None
        self._wake = -1
        self._thread = threading.Thread(target=self._run, name="flipcall-crew", daemon=True)

    # ---- beginning and end ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every worker and return when they serve. Raises MisuseError when one does not, or cannot be
        brought into its process, and OSError when there can be no process; none is left then.
        """
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.EPOLLIN)
        try:
            self._recruit_all()
            with self._lock:
                if not self._changed.wait_for(self._settled, _START_S):
                    raise MisuseError(f"a worker has not begun to serve within {_START_S:g} s")
                if self._deaths:
                    raise MisuseError("a worker ended before it served: what it wrote says why")
        except BaseException:
            self.stop(0.0)
            raise

    def _recruit_all(self) -> None:
        try:
            for _ in range(self._count):
                self._recruit()
        except OSError:
            self._stopping = True
            raise
        except Exception as e:  # whatever pickling raises
            self._stopping = True
            raise MisuseError(f"a worker cannot be started: {e}") from e
        finally:
            self._thread.start()

    def _settled(self) -> bool:
        serving = sum(w.state is not WorkerState.STARTING for w in self._workers)
        return bool(self._deaths) or serving >= self._count

    def stop(self, grace: float) -> None:
        """Tell every worker to drain, and wait for them; those that take longer than that are killed. Idempotent.

        After the last hand_out().
        """
        with self._lock:
            self._stopping = True
            for worker in self._workers:
                self._tell(worker, Word.STOP, int(grace * 1000))
            self._changed.wait_for(lambda: not self._workers, grace + _LETTING_GO_S)
            for worker in self._workers:
                _log.warning("worker %d did not end in time and is killed", worker.pid)
                worker.process.kill()
            self._changed.wait_for(lambda: not self._workers, _LETTING_GO_S)
        if self._thread.ident is not None:
            self._ring()
            self._thread.join()
        self.disown()

    def disown(self) -> None:
        """Close every descriptor; in a forked child, too."""
        self._stopping = True
        if self._poll is not None:
            self._poll.close()
        if self._wake >= 0:
            os.close(self._wake)
        self._wake = -1
        for lane in [w.lane for w in self._workers] + ([self._coming] if self._coming else []):
            lane.close()
        self._workers = []

    # ---- handing out ------------------------------------------------------------------------------------

    def hand_out(self, sock: socket.socket) -> None:
        """Pass a new connection on to a worker, or tell the client why not. `sock` is this function's."""
        with sock:
            client = client_of(Peer.of(sock))
            try:
                self._places.take(client)
            except CallError as e:
                refuse(sock, e)
                return
            if not self._handed(sock, client):
                self._places.give(client)
                refuse(sock, CallError(Status.UNAVAILABLE, "no worker is there to serve this connection"))

    def _handed(self, sock: socket.socket, client: Client) -> bool:
        with self._lock:
            able = [w for w in self._workers if w.takes and not self._stopping]
            if self._sticky:
                able = [w for w in able if w.clients[client]] or able
            for worker in sorted(able, key=lambda w: (not w.listens(), len(w.channels))):
                try:
                    say(worker.lane, Word.TAKE, 0, (sock.fileno(),))
                except OSError:  # it does not listen, or is dying
                    continue
                worker.took(client)
                self._workers.remove(worker)
                self._workers.append(worker)
                return True
        return False

    @property
    def channels(self) -> int:
        """Connections that workers have now."""
        with self._lock:
            return sum(len(w.channels) for w in self._workers)

    def ask(self) -> list[bytes]:
        """What the workers have to tell, of those that answer in time. Any thread."""
        answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        with self._lock:
            self._surveys.begin(self, self._others(None), answers.put)
        return collect(answers)

    @property
    def pids(self) -> list[int]:
        """The processes that serve or are about to."""
        with self._lock:
            return sorted(w.pid for w in self._workers if w.takes)

    # ---- watching over them -----------------------------------------------------------------------------

    def _recruit(self) -> None:
        """Start one more worker."""
        self._coming, theirs = ours, _ = pair()
        process = self._context.Process(
            target=self._work, args=(theirs, *self._recipe), name="flipcall-worker"
        )
        try:
            with theirs, self.accepting:
                process.start()
        except BaseException:
            ours.close()
            raise
        with self._lock:
            assert self._poll is not None
            self._coming = None
            self._workers.append(Worker(process, ours))
            self._poll.register(ours, select.EPOLLIN)

    def _run(self) -> None:
        """The crew's thread: hears the workers, buries the dead, fills their places."""
        assert self._poll is not None
        while True:
            with self._lock:
                if self._stopping and not self._workers:
                    return
                missing = self._count - sum(w.takes for w in self._workers)
                pause = max(0.0, self._due - time.monotonic()) if missing > 0 and not self._stopping else None
            if pause == 0.0:
                self._refill()
                continue
            for fd, _ in self._poll.poll(pause):
                if fd == self._wake:
                    os.eventfd_read(self._wake)
                else:
                    self._hear(fd)

    def _refill(self) -> None:
        try:
            self._recruit()
        except Exception:
            _log.exception("a worker could not be started")
            self._died_young()

    def _hear(self, fd: int) -> None:
        with self._lock:
            worker = next((w for w in self._workers if w.lane.fileno() == fd), None)
            if worker is None:
                return
            try:
                word, number, _, data = hear(worker.lane)
            except BlockingIOError:
                return
            except (OSError, FlipcallError, ValueError):
                word, number, data = None, 0, b""
            if word is Word.LEFT:
                client = worker.left(number)
                if client is not None:
                    self._places.give(client)
            elif word is Word.READY:
                worker.state = WorkerState.SERVING
                if self._stopping:
                    self._tell(worker, Word.STOP)
            elif word is Word.LEAVING:
                worker.state = WorkerState.LEAVING
                self._tell(worker, Word.GO)
            elif word is Word.ASK:
                self._survey(worker, number)
            elif word is Word.TOLD:
                self._surveys.told(worker, number, data)
            else:
                self._bury(worker)
            self._changed.notify_all()

    def _survey(self, asker: Worker, number: int) -> None:
        """A worker asks what the others have to tell."""

        def sink(answer: bytes | None) -> None:
            try:
                if answer is None:
                    say(asker.lane, Word.DONE, number)
                else:
                    say_at_length(asker.lane, number, answer, PATIENCE_S)
            except OSError:
                pass  # it does not listen; it waits no longer than it said

        self._surveys.begin(asker, self._others(asker), sink)

    def _others(self, asker: Worker | None) -> list[Asked]:
        serving = (WorkerState.SERVING, WorkerState.LEAVING)
        return [w for w in self._workers if w is not asker and w.state in serving]

    def _bury(self, worker: Worker) -> None:
        """It has hung up: it is gone, or does what none of ours does."""
        worker.lane.close()
        worker.process.kill()  # unless it has ended; one that has hung up and lives is of no use
        worker.process.join()
        status = worker.process.exitcode
        worker.process.close()
        self._workers.remove(worker)
        self._surveys.gone(worker)
        for client in worker.channels.values():
            self._places.give(client)
        leaving = worker.state is WorkerState.LEAVING or self._stopping
        young = worker.state is WorkerState.STARTING or time.monotonic() - worker.born < _YOUNG_S
        worker.state = WorkerState.GONE
        if not leaving:
            _log.warning("worker %d ended: %s", worker.pid, _how(status))
            if young:
                self._died_young()
            else:
                self._deaths = 0

    def _died_young(self) -> None:
        pause = min(_PAUSE_S * 2**self._deaths, _PAUSE_MOST_S)
        self._deaths = min(self._deaths + 1, 16)
        self._due = time.monotonic() + pause

    def _tell(self, worker: Worker, word: Word, number: int = 0) -> None:
        try:
            say(worker.lane, word, number)
        except OSError:
            pass  # it is gone, or stopped: stop() kills it in the end

    def _ring(self) -> None:
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)


def _how(status: int | None) -> str:
    if status is not None and status < 0:
        return signal.Signals(-status).name
    return f"status {status}"
