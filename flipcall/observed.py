"""The items of a streaming call that an Observer looks at: what it has entered is left when the stream ends.

All that belongs to the call happens in a context (contextvars) of its own: entering, each item, leaving. What the
observer sets there, such as a tracer's current span, is set for a handler that yields, and not for whoever takes
the items in between; and it is reset where it was set, whichever thread or task ends the stream.

A stream that is closed early, or dropped, has not failed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class Observation:
    """What has been entered, until it is left, once."""

    def __init__(self, around: AbstractContextManager[object]) -> None:
        self.context = copy_context()
        self._around: AbstractContextManager[object] | None = around
        self.context.run(around.__enter__)

    def end(self, error: BaseException | None = None) -> None:
        """The call is over. Idempotent. Raises what leaving does, but for `error`."""
        around, self._around = self._around, None
        if around is None:
            return
        try:
            self.context.run(around.__exit__, type(error) if error else None, error, _traceback(error))
        except BaseException as e:
            if e is not error:
                raise


def _traceback(error: BaseException | None) -> TracebackType | None:
    return None if error is None else error.__traceback__


class ObservedItems(Iterator[Any]):
    """Those of an iterator. One thread at a time."""

    def __init__(self, observation: Observation, items: Iterable[Any]) -> None:
        self._observation = observation
        self._source = items
        self._items = observation.context.run(iter, items)

    def __next__(self) -> Any:
        try:
            return self._observation.context.run(next, self._items)
        except StopIteration:
            self._observation.end()
            raise
        except BaseException as e:
            self._observation.end(e)
            raise

    def close(self) -> None:
        """Ask for no more. Idempotent."""
        try:
            for closed in (self._items, self._source):
                close = getattr(closed, "close", None)
                if close is not None:
                    self._observation.context.run(close)
        finally:
            self._observation.end()

    def __enter__(self) -> "ObservedItems":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_items"):
            self.close()


class ObservedAsyncItems(AsyncIterator[Any]):
    """Those of an asynchronous iterator. One task at a time."""

    def __init__(self, observation: Observation, items: Any) -> None:
        self._observation = observation
        self._source = items
        self._items = observation.context.run(items.__aiter__)

    async def __anext__(self) -> Any:
        try:
            return await Inside(self._observation.context, self._items.__anext__)
        except StopAsyncIteration:
            self._observation.end()
            raise
        except BaseException as e:
            self._observation.end(e)
            raise

    async def aclose(self) -> None:
        """Ask for no more. Idempotent."""
        try:
            for closed in (self._items, self._source):
                close = getattr(closed, "aclose", None)
                if close is not None:
                    await Inside(self._observation.context, close)
        finally:
            self._observation.end()

    def __del__(self) -> None:
        if hasattr(self, "_items"):
            self._observation.end()


class Inside(Awaitable[T]):
    """What `begin` gives, awaited step by step in another context than the task's."""

    def __init__(self, context: Context, begin: Callable[..., Awaitable[T]], *args: Any) -> None:
        self._context = context
        self._begin = begin
        self._args = args

    def __await__(self) -> Generator[Any, Any, T]:
        run = self._context.run
        steps: Any = run(run(self._begin, *self._args).__await__)
        step, value = steps.send, None
        while True:
            try:
                waits = run(step, value)
            except StopIteration as e:
                result: T = e.value
                return result
            try:
                step, value = steps.send, (yield waits)
            except BaseException as e:  # the task is cancelled: the step hears of it
                step, value = steps.throw, e
