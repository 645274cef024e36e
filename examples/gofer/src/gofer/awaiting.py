"""The client in an event loop, without threads: where it would wait for an answer, the loop runs other tasks.

Whatever asks a gofer (paths and links, files, copies, the file system for fsspec) is written once, with calls that
wait. `run` runs such code in a greenlet, a stack of its own: a call leaves it with something to be awaited,
the task awaits that, and the stack is entered again with the answer, or with the exception, be it a cancellation.
So `with` and `finally` in between do what they are there for. SQLAlchemy's asyncio is made so for the same reason.
The alternative is every function that asks, twice; or a thread for each call, which cancelling does not end.

Nothing here may wait otherwise: code under `run` must not take a lock over a call, and reading and writing local
files keeps the loop, as it does in fsspec's own asynchronous file systems.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import greenlet

import flipcall.asyncio
from flipcall import MisuseError
from gofer.client import GoferClient
from gofer.protocol import Gofer

T = TypeVar("T")


class _Stack(greenlet.greenlet):
    """One run; what is no run has no loop to await anything in."""


async def run(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """What a function gives whose calls are an AwaitingClient's; awaited, and cancelled, like any coroutine."""
    stack = _Stack(function)
    stack.gr_context = contextvars.copy_context()
    asked = stack.switch(*args, **kwargs)
    while not stack.dead:
        try:
            answer = await asked
        except BaseException as error:
            asked = stack.throw(error)
        else:
            asked = stack.switch(answer)
    return cast(T, asked)


def _answer(call: Callable[..., Awaitable[T]], *args: Any) -> T:
    stack = greenlet.getcurrent()
    if not isinstance(stack, _Stack) or stack.parent is None:
        raise MisuseError("a client of an event loop asks its gofer in gofer.awaiting.run() alone")
    return cast(T, stack.parent.switch(call(*args)))


def _asynchronous() -> type[flipcall.Service]:
    """Gofer with `async def`: the same operations to the same server."""

    def declared(operation: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(operation)
        async def declaration(*_args: Any, **_kwargs: Any) -> Any:
            raise NotImplementedError

        return declaration

    namespace = {name: declared(operation) for name, operation in _OPERATIONS.items()}
    return type(Gofer.__name__, (flipcall.Service,), {"__module__": Gofer.__module__, **namespace})


_OPERATIONS = {
    name: operation
    for name, operation in vars(Gofer).items()
    if inspect.isfunction(operation) and not name.startswith("_")
}
_AsyncGofer = _asynchronous()


class _Awaited:
    """The operations of an asynchronous client, for code under `run`."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.close = client.close

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.client, name)

        def call(*args: Any) -> Any:
            return _answer(operation, *args)

        setattr(self, name, call)
        return call


class AwaitingClient(GoferClient):
    """A GoferClient of the running loop, which is made and used under `run`. Any task of the loop may use it."""

    def _connect(self, path: str, **options: Any) -> Gofer:
        if options.pop("transport") != "window":
            raise MisuseError("flipcall.asyncio speaks over packet windows alone")

        async def connect() -> Any:
            return await flipcall.asyncio.connect(_AsyncGofer, path, **options)

        return cast(Gofer, _Awaited(_answer(connect)))

    def read_into(self, buffer: memoryview, fid: int, offset: int, length: int) -> int:
        """See MountedTree."""
        client = cast(_Awaited, self.gofer).client
        return _answer(flipcall.asyncio.into, buffer, client.read, fid, offset, length)
