"""log_calls: an interceptor of either side that writes a line for each call."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .interceptor import ClientCall, Observer, ServerCall


def log_calls(
    logger: logging.Logger | None = None, *, level: int = logging.INFO, arguments: bool = False
) -> Observer:
    """An interceptor that logs each call when it is over: its method, how long it took, what it raised.

    logger: by default "flipcall.calls". level: of calls that ended well; others are warnings. arguments: log them,
    too; they may be secret, or large. For clients and servers of either kind.
    """
    log = logger or logging.getLogger("flipcall.calls")

    @contextmanager
    def logged(call: ClientCall | ServerCall) -> Iterator[None]:
        started = time.perf_counter()
        shown = f"{call.service}.{call.method}{call.args if arguments else ''}"
        try:
            yield
        except BaseException as e:
            took = (time.perf_counter() - started) * 1e6
            # Its words alone: a kept record would keep its traceback, and with that the window.
            log.warning("%s raised %s after %.0f µs: %s", shown, type(e).__name__, took, str(e))
            raise
        log.log(level, "%s took %.0f µs", shown, (time.perf_counter() - started) * 1e6)

    return Observer(logged)
