"""Retry: an interceptor that makes a call again when the server was not there to answer it."""

import random
import time
from collections.abc import Awaitable, Callable, Collection
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
        attempts = self._attempts(call)
        while True:
            try:
                return proceed(call)
            except Exception as e:
                if (pause := attempts.pause_after(e)) is None:
                    raise
            time.sleep(pause)
            attempts.begin(call)

    async def asynchronous(self, call: ClientCall, proceed: Callable[[ClientCall], Awaitable[Any]]) -> Any:
        """The same in an event loop. A stream's items are none of an attempt: it is over when they can come."""
        import asyncio  # only who has a loop needs it, and has it

        attempts = self._attempts(call)
        while True:
            try:
                return await proceed(call)
            except Exception as e:
                if (pause := attempts.pause_after(e)) is None:
                    raise
            await asyncio.sleep(pause)
            attempts.begin(call)

    def _attempts(self, call: ClientCall) -> "_Attempts":
        return _Attempts(self, self.attempts if self._applies(call) else 1, call.timeout)


class _Attempts:
    """Those of one call."""

    def __init__(self, retry: Retry, most: int, timeout: float | None) -> None:
        self._left = most
        self._pause, self._longest = retry.pause, retry.longest
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def pause_after(self, error: Exception) -> float | None:
        """Seconds to wait before the next attempt; None when there is none."""
        self._left -= 1
        pause = random.uniform(0, self._pause)
        self._pause = min(2 * self._pause, self._longest)
        late = self._deadline is not None and time.monotonic() + pause >= self._deadline
        return None if late or not self._left or not unavailable(error) else pause

    def begin(self, call: ClientCall) -> None:
        """The next one has what is left of the time."""
        if self._deadline is not None:
            call.timeout = max(0.0, self._deadline - time.monotonic())


def unavailable(error: Exception) -> bool:
    """Whether an error says that the server could not be asked, or was lost before it answered."""
    if isinstance(error, DeadlineExceeded):
        return False
    if isinstance(error, CallError):
        return error.status is Status.UNAVAILABLE
    return isinstance(error, (ClosedError, PeerDiedError)) or (
        # With the socket's name; of a handler's, failure.py says so.
        isinstance(error, (ConnectionRefusedError, FileNotFoundError))
        and error.filename is not None
        and not getattr(error, "remote", False)
    )
