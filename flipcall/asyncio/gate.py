"""Gate: so many calls at the same time, over all channels of a loop."""

from collections.abc import AsyncIterator, Callable
from functools import wraps
from inspect import isawaitable
from typing import Any

from .. import limits
from .streams import opened


class Gate(limits.Gate):
    """See flipcall.limits.Gate. Handlers may be coroutines; each call has a task."""

    def guard(self, handler: Callable[..., Any], streams: bool) -> Callable[..., Any]:
        """See flipcall.limits.Gate.guard."""

        @wraps(handler)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            with self.entered():
                result = handler(*args, **kwargs)
                return await result if isawaitable(result) else result

        @wraps(handler)
        async def streamed(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            with self.entered():
                async with opened(handler(*args, **kwargs)) as items:
                    async for item in items:
                        yield item

        return streamed if streams else guarded
