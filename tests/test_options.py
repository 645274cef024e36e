"""Options that cannot be, at every door: refused before anything is opened, with name, value and what is right."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import flipcall
import flipcall.asyncio
import flipcall.testing
from flipcall.dynamic import DynamicClient
from flipcall.interceptor import Observer

NOWHERE = "/nowhere/at all"
HUGE = 10**400


class Geo(flipcall.Service):
    def distance(self, a: int) -> int: ...


class LoopGeo(flipcall.Service):
    async def distance(self, a: int) -> int: ...


async def in_a_loop(call: Any, proceed: Any) -> Any:
    return await proceed(call)


def serve_in_a_loop(*args: Any, **options: Any) -> None:
    asyncio.run(flipcall.asyncio.serve(*args, **options))


def again(*, timeout: Any) -> Geo:
    with flipcall.testing.local(Geo()) as client:
        return flipcall.with_options(client, timeout=timeout)


DOORS: dict[str, Callable[..., Any]] = {
    "connect": functools.partial(flipcall.connect, Geo, NOWHERE),
    "asyncio.connect": functools.partial(flipcall.asyncio.connect, LoopGeo, NOWHERE),
    "Server": functools.partial(flipcall.Server, Geo(), NOWHERE),
    "asyncio.Server": functools.partial(flipcall.asyncio.Server, LoopGeo(), NOWHERE),
    "serve": functools.partial(flipcall.serve, Geo(), NOWHERE),
    "asyncio.serve": functools.partial(serve_in_a_loop, LoopGeo(), NOWHERE),
    "DynamicClient": functools.partial(DynamicClient, NOWHERE),
    "local": functools.partial(flipcall.testing.local, Geo()),
    "with_options": again,
}
OWN = {
    "serve": flipcall.serve,
    "asyncio.serve": flipcall.asyncio.serve,
    "with_options": flipcall.with_options,
}
SERVES = {"serve": "Server", "asyncio.serve": "asyncio.Server"}  # takes the options of, too

SECONDS: list[Any] = ["5", -1, True, float("nan"), [1], -0.001]
COUNT: list[Any] = ["many", 1.5, True, -1, None]
WRONG: dict[str, list[Any]] = {
    "authorize": [None, 3, "anybody"],
    "connect_timeout": [*SECONDS, None, float("inf"), 1e9, HUGE],
    "grace": [*SECONDS, None, float("inf"), HUGE],
    "interceptors": [None, 1, print, [1], "log", {print}, ["log"], [None], iter([print])],
    "max_calls": ["many", 1.5, True, 0, -1],
    "max_channels": [*COUNT, 0],
    "max_channels_per_client": ["many", 1.5, True, 0, -1],
    "message_max": [*COUNT, 0, 4095, 2**32],
    "policy": [3, "latency", flipcall.WaitPolicy, {"spin_ns": 0}],
    "ready": [3, "go"],
    "server_interceptors": [None, 1, [1], [in_a_loop]],
    "service": [None, 3],
    "start_method": [None, 3, "thread", "SPAWN"],
    "statistics": [None, 1, "no"],
    "stop_with_parent": [None, 1, "no"],
    "switch": [3, "teleport", ""],
    "timeout": [*SECONDS, flipcall],
    "tracebacks": [None, 1, "no"],
    "transport": [None, 3, "pigeon", ["window"]],
    "transports": [None, 3, "window", [], ["pigeon"], ["window", 3]],
    "window_max": [*COUNT, 0, 4095, 2**31],
    "window_size": [*COUNT, 0, 4095, 2**31],
    "workers": ["two", 1.5, True, -1, None],
}
MORE: dict[str, list[Any]] = {"connect": [[in_a_loop]], "Server": [[in_a_loop]]}  # interceptors


def options(door: str) -> list[str]:
    """The options that a door has by its signature."""
    call = OWN.get(door, DOORS[door])
    function = call.func if isinstance(call, functools.partial) else call
    parameters = inspect.signature(function).parameters.values()
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and not p.name.startswith("_")]
    return named + (options(SERVES[door]) if door in SERVES else [])


def cases() -> Iterator[Any]:
    for door in DOORS:
        for name in options(door):
            for value in WRONG[name] + (MORE.get(door, []) if name == "interceptors" else []):
                yield pytest.param(door, name, value, id=f"{door}-{name}-{str(value)[:20]}")


@pytest.mark.parametrize(("door", "name", "value"), list(cases()))
def test_what_an_option_cannot_be(door: str, name: str, value: Any) -> None:
    """MisuseError, and not what nobody at the path means, and in words."""
    with pytest.raises(flipcall.MisuseError, match=rf"^{name} must be .*, not ") as info:
        DOORS[door](**{name: value})
    assert len(str(info.value)) < 300
    assert repr(value)[:10] in str(info.value)


FITS: dict[str, list[Any]] = {
    "connect_timeout": [0, 0.5, 1_000_000],
    "interceptors": [[], (), [print], (Observer(print),)],
    "max_calls": [None, 1],
    "max_channels_per_client": [None, 1],
    "message_max": [4096, 2**32 - 1],
    "policy": [None, flipcall.WaitPolicy.latency()],
    "switch": [None, "futex"],
    "timeout": [None, 0, 0.5, float("inf"), HUGE],
    "transports": [["socket"], ("window", "socket")],
    "window_max": [4096, 2**30],
    "window_size": [4096, 2**30],
    "workers": [0, 1],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in FITS for value in FITS[name]])
def test_what_an_option_can_be(name: str, value: Any) -> None:
    """The limits themselves are allowed: then it is the path that nobody serves at."""
    for door in ("connect", "Server"):
        if name in options(door):
            made = functools.partial(DOORS[door], **{name: value})
            if door == "Server":
                assert isinstance(made(), flipcall.Server)
            else:
                with pytest.raises((FileNotFoundError, flipcall.DeadlineExceeded)):
                    made()


def test_an_event_loops_interceptors() -> None:
    """Coroutine functions, plain ones that give something to wait for, and those for both."""
    interceptors = [in_a_loop, lambda call, proceed: proceed(call), Observer(print)]
    flipcall.asyncio.Server(LoopGeo(), NOWHERE, interceptors=interceptors)
    flipcall.asyncio.connect(LoopGeo, NOWHERE, interceptors=interceptors)


@pytest.mark.parametrize("path", [None, 3, b"/bytes", object()])
@pytest.mark.parametrize("door", ["connect", "Server"])
@pytest.mark.parametrize("by_name", [False, True])
def test_what_a_path_cannot_be(door: str, path: Any, by_name: bool) -> None:
    """Refused like an option, given by its place or by its name."""
    for module in (flipcall, flipcall.asyncio):
        given: Any = Geo if module is flipcall else LoopGeo
        call = functools.partial(getattr(module, door), given if door == "connect" else given())
        with pytest.raises(flipcall.MisuseError, match=r"^path must be a str"):
            call(path=path) if by_name else call(path)


def test_a_path_object_is_one(tmp_path: Any) -> None:
    """os.PathLike of a str."""
    with flipcall.Server(Geo(), tmp_path / "s"), flipcall.connect(Geo, tmp_path / "s"):
        assert os.path.exists(tmp_path / "s")


@pytest.mark.parametrize("wrong", [None, 3, Geo(), "Geo", int])
def test_what_is_no_service_class(wrong: Any) -> None:
    """A client is made of the class, not of a name or an object of it."""
    for connect in (flipcall.connect, flipcall.asyncio.connect):
        with pytest.raises(flipcall.MisuseError, match=r"subclass of flipcall\.Service"):
            connect(wrong, NOWHERE)


@pytest.mark.parametrize("grace", ["x", -1, None, float("nan")])
def test_stop_refuses_a_grace_that_cannot_be(tmp_path: Any, grace: Any) -> None:
    """And the server serves on, to be stopped rightly."""
    with flipcall.Server(Geo(), tmp_path / "s") as server:
        with pytest.raises(flipcall.MisuseError, match="grace must be seconds"):
            server.stop(grace)
        flipcall.connect(Geo, tmp_path / "s").close()

    async def in_loop() -> None:
        async with flipcall.asyncio.Server(LoopGeo(), tmp_path / "s") as there:
            with pytest.raises(flipcall.MisuseError, match="grace must be seconds"):
                await there.stop(grace)
            async with flipcall.asyncio.connect(LoopGeo, tmp_path / "s"):
                pass

    asyncio.run(in_loop())


def test_a_class_to_be_made_once(tmp_path: Any) -> None:
    """Given itself instead of an object of it, it is told from one that is made for each client."""

    class ForEach(Geo):
        def __init__(self, peer: flipcall.Peer) -> None:
            self.peer = peer

    flipcall.Server(ForEach, tmp_path / "s")
    flipcall.asyncio.Server(ForEach, tmp_path / "s")
    for server in (flipcall.Server, flipcall.asyncio.Server):
        with pytest.raises(flipcall.MisuseError, match=r"called with the Peer.*Geo\(\) would be one service"):
            server(Geo, tmp_path / "s")
