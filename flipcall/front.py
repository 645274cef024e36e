"""Front: the part of a server with workers that serves no call. It takes connections, and hands them out."""

import atexit
from collections.abc import Callable

from .listener import Source
from .watcher import Watcher
from .workers import Crew


class Front:
    """A crew, and once started the thread that takes connections for it. Any thread may start and stop it."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self._source: Source | None = None
        self._watcher: Watcher | None = None

    def start(self, source: Source, orphaned: Callable[[], None], parent: int | None) -> None:
        """Return when all workers serve. `orphaned` is called when process `parent` ends, this one's parent.

        Raises as Crew.start() and Watcher.watch_parent() do; the source is closed then.
        """
        self._source = source
        try:
            self.crew.start()
            atexit.register(self.stop)  # before multiprocessing waits for its processes
            self._watcher = Watcher(source, self.crew.hand_out, orphaned, self.crew.accepting)
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
        self.crew.stop(grace)
        atexit.unregister(self.stop)

    def disown(self) -> None:
        """In a forked child: it is the parent's."""
        if self._watcher is not None:
            self._watcher.disown()
        self.crew.disown()
        atexit.unregister(self.stop)
