"""What a server allows: so many channels in all, so many of one client, so many calls at the same time.

Beyond a limit the answer is RESOURCE_EXHAUSTED, with the numbers in it, and it comes at once: a queue here would
only hide that the caller's own deadline is what it waits for.
"""

import resource
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from .errors import CallError
from .liveness import Peer
from .status import Status

Client = tuple[int, int]  # pid and uid

_DESCRIPTORS = (
    3  # of one channel: its socket, a pidfd of its client, the window's file (Python's mmap keeps it)
)
_DESCRIPTORS_BESIDE = 256  # for what the program itself opens


def client_of(peer: Peer) -> Client:
    """Who counts as one client: a process. Those of other pid namespaces have pid 0, and count by their user."""
    return peer.pid, peer.uid


def room_for(channels: int) -> None:
    """Let this process open the descriptors that so many channels need, as far as the hard limit allows.

    Only for a process that is there to serve: one that also uses select(2) must stay below its 1024.
    """
    need = channels * _DESCRIPTORS + _DESCRIPTORS_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < need:
        soft = need if hard == resource.RLIM_INFINITY else min(need, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Places:
    """The channels a server has room for. Any thread."""

    def __init__(self, most: int, most_per_client: int | None) -> None:
        self._most = most
        self._most_per_client = most_per_client
        self._lock = threading.Lock()
        self._taken: Counter[Client] = Counter()
        self._all = 0

    def take(self, client: Client) -> None:
        """A place for one more channel. Raises CallError (RESOURCE_EXHAUSTED) when there is none."""
        with self._lock:
            if self._all >= self._most:
                raise CallError(Status.RESOURCE_EXHAUSTED, f"all {self._most} channels are in use")
            if self._most_per_client is not None and self._taken[client] >= self._most_per_client:
                what = f"process {client[0]} has {self._taken[client]} channels"
                raise CallError(
                    Status.RESOURCE_EXHAUSTED, f"{what}, a client may have {self._most_per_client}"
                )
            self._all += 1
            self._taken[client] += 1

    def give(self, client: Client) -> None:
        """A channel that had a place has ended."""
        with self._lock:
            self._all -= 1
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]


class Gate:
    """Lets `most` calls be served at the same time, over all channels of this process. Any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = threading.Semaphore(most)

    def guard(self, handler: Callable[..., Any], streams: bool) -> Callable[..., Any]:
        """`handler`, which raises CallError (RESOURCE_EXHAUSTED) instead of being one too many. streams: it gives
        an iterator, and the call lasts as long as that.
        """

        @wraps(handler)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with self.entered():
                return handler(*args, **kwargs)

        @wraps(handler)
        def streamed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with self.entered():
                yield from handler(*args, **kwargs)

        return streamed if streams else guarded

    @contextmanager
    def entered(self) -> Iterator[None]:
        """One of them is served inside. Raises CallError (RESOURCE_EXHAUSTED) when it were one too many."""
        if not self._free.acquire(blocking=False):
            what = f"{self._most} calls are being served, which is the most at a time"
            raise CallError(Status.RESOURCE_EXHAUSTED, what)
        try:
            yield
        finally:
            self._free.release()
