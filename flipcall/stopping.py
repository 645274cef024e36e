"""How a server that runs until it is told to stop is told."""

import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNAL_S = 1.0


class StopRequest:
    """Made once or more often, by any thread and by signal handlers; waited for by one thread."""

    def __init__(self) -> None:
        # Not an Event: a signal handler that sets one deadlocks when it interrupts the thread that waits for it.
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()

    def make(self) -> None:
        """Have wait() return, also one that has not begun."""
        self._requests.put(None)

    def wait(self) -> None:
        """Not in one go: a signal that arrives when the interpreter has looked for signals and does not sleep yet
        (milliseconds, if other threads want to run) wakes nobody, and its handler, which calls make(), would never
        run.
        """
        while True:
            try:
                self._requests.get(timeout=_SIGNAL_S)
            except queue.Empty:
                continue
            return


@contextmanager
def called_on(numbers: tuple[int, ...], call: Callable[[], None]) -> Iterator[None]:
    """These signals call `call` inside; signal handlers are those of before afterwards. Main thread only."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        call()

    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
