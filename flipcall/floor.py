"""Floor: the part of a server that serves calls, in a process without workers, and in each worker (front.py is the
part of one with workers that serves none).

start() ──► watcher: accepts; sees hang-ups and deaths and condemns those channels (watcher.py)
              │ a thread a channel: handshake ──► serve until the channel ends ──► leave
stop(grace): no more connections; idle channels retire at once, busy ones after their answer;
             what is left after `grace` seconds is shut down
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable

from .admission import Admission
from .builtin import Builtins
from .connection import Connections
from .handover import Handover
from .limits import Gate, Places, room_for
from .listener import Source
from .method import encode
from .session import Implementation, Sessions
from .stats import of_workers
from .stopping import StopRequest
from .terms import Terms
from .watcher import Watcher


class Floor:
    """One process's channels and what they are served by. Any thread."""

    def __init__(self, implementation: Implementation, terms: Terms) -> None:
        """Raises MisuseError for what cannot be served."""
        places = Places(terms.max_channels, terms.max_channels_per_client)
        gate = None if terms.max_calls is None else Gate(terms.max_calls)
        sessions = Sessions(implementation, terms.tracebacks, gate, terms.interceptors)
        self._builtins = Builtins(sessions, lambda: self._connections.observe(), terms.statistics)
        admission = Admission(sessions, self._builtins.sessions, terms)
        self._connections = Connections(admission, self._builtins.ledger, places)
        self.health, self.statistics = self._builtins.health, self._builtins.statistics.read
        self.workers: list[int] = []
        self._source: Source | None = None
        self._watcher: Watcher | None = None

    def start(self, source: Source, orphaned: Callable[[], None], parent: int | None) -> None:
        """Serve what comes from `source`. `orphaned` is called when process `parent` ends, this one's parent.

        Raises as Watcher.watch_parent() does; the source is closed then.
        """
        self._source = source
        try:
            self._watcher = Watcher(source, self._connections.take, orphaned, contextlib.nullcontext())
            self._connections.attend(source, self._watcher)
            if parent is not None:
                self._watcher.watch_parent(parent)
            self._watcher.start()
        except BaseException:
            source.close()
            if self._watcher is not None:
                self._watcher.stop()
            raise

    def stop(self, grace: float) -> None:
        """See Server.stop."""
        if self._source is None or self._watcher is None:
            return
        if self._connections.serves_here():
            threading.Thread(target=self.stop, args=(grace,), name="flipcall-stop", daemon=True).start()
            return
        self._source.close()
        self._builtins.health.drain()
        self._connections.drain(grace)
        self._watcher.stop()  # from here on nobody comes any more
        self._connections.end()

    @property
    def channels(self) -> int:
        """Connections there are now, those shaking hands included."""
        return len(self._connections.live())

    def disown(self) -> None:
        """In a forked child: close what was inherited, tell nobody."""
        self._connections.disown()
        if self._source is not None:
            self._source.disown()
        if self._watcher is not None:
            self._watcher.disown()
        self._watcher = None

    def work(self, lane: socket.socket) -> None:
        """A worker's life: serve the connections that come over `lane`, until told to stop by it or by SIGTERM.

        Ctrl-C reaches all processes of a terminal: the dispatcher says what follows.
        """
        asked, statistics = StopRequest(), self._builtins.statistics
        handover = Handover(lane, asked.make, lambda: encode(statistics.own()))
        statistics.whole = lambda own: of_workers(handover.dispatcher, handover.ask(), own)
        signal.signal(signal.SIGTERM, lambda number, frame: asked.make())
        signal.signal(signal.SIGINT, lambda number, frame: None)  # SIG_IGN would be inherited
        self.start(handover, asked.make, None)
        handover.ready()
        asked.wait()
        handover.leave()
        self.stop(handover.grace)


def work(lane: socket.socket, implementation: Implementation, terms: Terms) -> None:
    """What a worker process runs."""
    signal.set_wakeup_fd(-1)
    floor = Floor(implementation, terms)
    os.register_at_fork(after_in_child=floor.disown)
    room_for(terms.max_channels)
    floor.work(lane)
