"""A server of one or several processes, seen as one: the statistics of each worker, added up.

A connection goes to the worker with the fewest channels, so a few of them, held at the same time, reach all; where
each client has an implementation of its own, all go to one worker, and then only that is seen.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click

from ..errors import FlipcallError
from ..meter import Counts
from ..stats import ServerStats, Statistics, method_stats
from . import remote

_WINDOW = 1 << 20  # bytes: a thousand channels are described in some 200 KiB
_TRIES = 64  # connections to find all workers
_PATIENCE_S = 2.0  # with one that does not answer


_OPTIONS: dict[str, Any] = {
    "window_size": _WINDOW,
    "timeout": _PATIENCE_S,
    "connect_timeout": _PATIENCE_S,
}


class Crew:
    """The workers at one socket, by pid. One thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: dict[int, tuple[Statistics, ExitStack]] = {}

    def read(self) -> dict[int, ServerStats]:
        """The statistics of each worker there is. Raises click.ClickException when none answers any more."""
        found = self._asked()
        if len(found) < max((s.workers for s in found.values()), default=1):
            self._look(found)
        if not found:
            raise click.ClickException(f"the server at {self._path} has gone")
        return found

    def _asked(self) -> dict[int, ServerStats]:
        found = {}
        for pid, (statistics, stack) in list(self._seen.items()):
            try:
                found[pid] = statistics.read()
            except FlipcallError:  # it has ended
                del self._seen[pid]
                stack.close()
        return found

    def _look(self, found: dict[int, ServerStats]) -> None:
        """Connect until every worker is found, or nobody new comes any more."""
        with ExitStack() as again:
            for _ in range(_TRIES):
                stack = ExitStack()
                try:
                    statistics = stack.enter_context(remote.typed(Statistics, self._path, **_OPTIONS))
                    stats = statistics.read()
                except (FlipcallError, click.ClickException):
                    stack.close()
                    if found or self._seen:
                        return
                    raise
                if stats.pid in found:
                    again.push(stack)  # held until all are found: the next one goes elsewhere
                else:
                    found[stats.pid] = stats
                    self._seen[stats.pid] = statistics, stack
                if len(found) >= stats.workers:
                    return

    def close(self) -> None:
        """Hang up."""
        for _, stack in self._seen.values():
            stack.close()
        self._seen.clear()


@contextmanager
def crew(path: str) -> Iterator[Crew]:
    """The server at `path`. click.ClickException when nobody is there."""
    found = Crew(path)
    try:
        yield found
    finally:
        found.close()


def added_up(workers: list[ServerStats]) -> ServerStats:
    """Several workers as one server: their counts added, their channels together. Its pid is the first one's."""
    first = workers[0]
    counts: dict[str, Counts] = {}
    for worker in workers:
        for method in worker.methods:
            counts.setdefault(method.name, Counts()).add(method.counts)
    return ServerStats(
        first.pid,
        first.service,
        max(w.uptime_s for w in workers),
        first.metered,
        first.workers,
        [method_stats(name, counts[name]) for name in sorted(counts)],
        [channel for worker in workers for channel in worker.channels],
    )
