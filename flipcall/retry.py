"""Retry: an interceptor that makes a call again when the server was not there to answer it."""

import random
import time
from collections.abc import Callable, Collection
from typing import Any

from .errors import CallError, ClosedError, DeadlineExceeded, MisuseError, PeerDiedError
from .interceptor import ClientCall, ClientProceed
from .status import Status

Which = Collection[str] | Callable[[ClientCall], bool]


class Retry:
    """Make calls again that failed because the server was unavailable or gone, up to `attempts` times in all.

    idempotent: the names of the methods for which that is right, or a predicate of the call. It is the caller's
    to say: a server that died may have done what was asked, and not said so. Between attempts it waits `pause`
    seconds, then twice as long, up to `longest`, each time a random share of it, so that many clients do not
    come back at once. All attempts together have the call's timeout; the last error is raised when there is no
    time left for another one.

    What is tried again: ClosedError, PeerDiedError, CallError with status UNAVAILABLE, and that nobody listens
    (ConnectionRefusedError, FileNotFoundError while connecting). Never a deadline: it has passed for all of them.
    """

    def __init__(
        self, idempotent: Which, *, attempts: int = 3, pause: float = 0.01, longest: float = 1.0
    ) -> None:
        if attempts < 1 or pause < 0 or longest < pause:
            raise MisuseError(f"no retry with attempts={attempts}, pause={pause}, longest={longest}")
        if isinstance(idempotent, str):
            raise MisuseError("idempotent takes a collection of names, not one name")
        if callable(idempotent):
            self._applies: Callable[[ClientCall], bool] = idempotent
        else:
            names = frozenset(idempotent)
            self._applies = lambda call: call.method in names
        self.attempts = attempts
        self.pause = pause
        self.longest = longest

    def __call__(self, call: ClientCall, proceed: ClientProceed) -> Any:
        if not self._applies(call):
            return proceed(call)
        deadline = None if call.timeout is None else time.monotonic() + call.timeout
        pause = self.pause
        for attempt in range(1, self.attempts + 1):
            try:
                return proceed(call)
            except Exception as e:
                wait = random.uniform(0, pause)
                if attempt == self.attempts or not unavailable(e) or _too_late(deadline, wait):
                    raise
            time.sleep(wait)
            pause = min(2 * pause, self.longest)
            if deadline is not None:
                call.timeout = max(0.0, deadline - time.monotonic())
        raise AssertionError("the last attempt returns or raises")


def unavailable(error: Exception) -> bool:
    """Whether an error says that the server could not be asked, or was lost before it answered."""
    if isinstance(error, DeadlineExceeded):
        return False
    if isinstance(error, CallError):
        return error.status is Status.UNAVAILABLE
    return isinstance(error, (ClosedError, PeerDiedError)) or (
        # With the socket's name: a handler's comes without.
        isinstance(error, (ConnectionRefusedError, FileNotFoundError)) and error.filename is not None
    )


def _too_late(deadline: float | None, wait: float) -> bool:
    return deadline is not None and time.monotonic() + wait >= deadline
