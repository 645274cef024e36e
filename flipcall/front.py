"""Front: the part of a server with workers that serves no call. It takes connections, and hands them out.

The same for both kinds of server; a worker's part is a Floor of that kind.
"""

import atexit
import os
from collections.abc import Callable
from typing import Any, NoReturn

from .errors import MisuseError
from .limits import Places
from .listener import Source
from .service import Service
from .stats import ServerStats, of_workers
from .terms import Terms
from .watcher import Watcher
from .workers import Crew, StartMethod


class Front:
    """A crew, and once started the thread that takes connections for it. Any thread may start and stop it."""

    def __init__(
        self,
        count: int,
        method: StartMethod,
        work: Callable[..., None],
        implementation: Any,
        terms: Terms,
    ) -> None:
        """work: what a worker runs, with its lane, the implementation and its terms. Raises as Crew() does."""
        places = Places(terms.max_channels, terms.max_channels_per_client)
        recipe, sticky = (implementation, terms.of_a_worker()), not isinstance(implementation, Service)
        self._crew = Crew(count, method, work, recipe, places, sticky)
        self._source: Source | None = None
        self._watcher: Watcher | None = None

    def start(self, source: Source, orphaned: Callable[[], None], parent: int | None) -> None:
        """Return when all workers serve. `orphaned` is called when process `parent` ends, this one's parent.

        Raises as Crew.start() and Watcher.watch_parent() do; the source is closed then.
        """
        self._source = source
        try:
            self._crew.start()
            atexit.register(self.stop)  # before multiprocessing waits for its processes
            self._watcher = Watcher(source, self._crew.hand_out, orphaned, self._crew.accepting)
            if parent is not None:
                self._watcher.watch_parent(parent)
            self._watcher.start()
        except BaseException:
            self.stop(0.0)
            raise

    def stop(self, grace: float = 5.0) -> None:
        """Take no more connections, and end the workers when they have drained. Idempotent."""
        if self._source is not None:
            self._source.close()
        if self._watcher is not None:
            self._watcher.stop()
        self._crew.stop(grace)
        atexit.unregister(self.stop)

    @property
    def channels(self) -> int:
        """See Server.channels."""
        return self._crew.channels

    @property
    def workers(self) -> list[int]:
        """See Server.workers."""
        return self._crew.pids

    @property
    def health(self) -> NoReturn:
        """Raises MisuseError."""
        raise MisuseError("health is each worker's own, out of reach of this process")

    def statistics(self) -> ServerStats:
        """See Server.statistics."""
        return of_workers(os.getpid(), self._crew.ask())

    def disown(self) -> None:
        """In a forked child: it is the parent's."""
        if self._source is not None:
            self._source.disown()
        if self._watcher is not None:
            self._watcher.disown()
        self._crew.disown()
        atexit.unregister(self.stop)
