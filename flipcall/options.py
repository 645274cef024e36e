"""The options of the doors (connect(), Server, serve(), local()): what each may be, in one table.

A wrong one is refused where it is given, before anything is opened, with its name, its value and what is allowed:
else it would be found out deep inside, at the first call, or by the other side.
"""

import inspect
import os
from collections.abc import Callable, Sequence
from functools import wraps
from reprlib import Repr
from typing import Any, NamedTuple, ParamSpec, TypeVar

from ._core import lib
from .errors import MisuseError
from .policy import WaitPolicy
from .switch import SWITCHES

P = ParamSpec("P")
R = TypeVar("R")

_LONGEST_S = 1_000_000  # eleven days: what clocks and C types take anywhere
_U32 = 2**32 - 1  # lengths on the wire

_shown = Repr()
_shown.maxstring = _shown.maxother = 80


class _Rule(NamedTuple):
    allowed: str
    fits: Callable[[Any], bool]

    def or_none(self) -> "_Rule":
        return _Rule(f"None or {self.allowed}", lambda value: value is None or self.fits(value))


def _number(value: Any, kinds: type | tuple[type, ...] = (int, float)) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _count(least: int, most: int | None = None) -> _Rule:
    allowed = f"an int of at least {least}" if most is None else f"an int from {least} to {most}"
    return _Rule(allowed, lambda v: _number(v, int) and least <= v and (most is None or v <= most))


def _one_of(*words: str) -> _Rule:
    return _Rule(f"one of {', '.join(map(repr, words))}", lambda v: isinstance(v, str) and v in words)


def _several(allowed: str, fits: Callable[[Any], bool], least: int = 0) -> _Rule:
    def all_fit(value: Any) -> bool:
        listed = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        return listed and len(value) >= least and all(map(fits, value))

    return _Rule(allowed, all_fit)


def _plain_interceptor(value: Any) -> bool:
    return callable(value) and not any(map(inspect.iscoroutinefunction, (value, type(value).__call__)))


_TRANSPORT = _one_of("window", "socket")
_SECONDS = _Rule(f"seconds, from 0 to {_LONGEST_S}", lambda v: _number(v) and 0 <= v <= _LONGEST_S)
_FUNCTION = _Rule("callable", callable)
_BOOL = _Rule("True or False", lambda v: isinstance(v, bool))
_INTERCEPTORS = _several("a list of plain functions (call, proceed)", _plain_interceptor)
_LOOP_INTERCEPTORS = _several(
    "a list of coroutine functions (call, proceed)", lambda v: callable(v) or hasattr(v, "asynchronous")
)

_RULES = {
    "authorize": _FUNCTION,
    "connect_timeout": _SECONDS,
    "grace": _SECONDS,
    "interceptors": _INTERCEPTORS,
    "max_calls": _count(1).or_none(),
    "max_channels": _count(1),
    "max_channels_per_client": _count(1).or_none(),
    "message_max": _count(lib.FC_WINDOW_MIN, _U32),
    "path": _Rule("a str or an os.PathLike of one", lambda v: isinstance(_path(v), str)),
    "policy": _Rule("a WaitPolicy", lambda v: isinstance(v, WaitPolicy)).or_none(),
    "ready": _FUNCTION.or_none(),
    "service": _Rule("a str", lambda v: isinstance(v, str)),
    "server_interceptors": _INTERCEPTORS,
    "start_method": _one_of("spawn", "fork", "forkserver"),
    "statistics": _BOOL,
    "stop_with_parent": _BOOL,
    "switch": _one_of(*(s.name for s in SWITCHES)).or_none(),
    # 71 minutes at most, longer ones count as that: so also an infinite one.
    "timeout": _Rule("seconds, 0 or more", lambda v: _number(v) and v >= 0).or_none(),
    "tracebacks": _BOOL,
    "transport": _TRANSPORT,
    "transports": _several("a list of 'window', 'socket' or both", _TRANSPORT.fits, 1),
    "window_max": _count(lib.FC_WINDOW_MIN, lib.FC_WINDOW_MAX),
    "window_size": _count(lib.FC_WINDOW_MIN, lib.FC_WINDOW_MAX),
    "workers": _count(0),
}


def _path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def check(**options: Any) -> None:
    """Raise MisuseError for the first of these that is not what it may be."""
    for name, value in options.items():
        _check(name, value, _RULES[name])


def _check(name: str, value: Any, rule: _Rule) -> None:
    if not rule.fits(value):
        raise MisuseError(f"{name} must be {rule.allowed}, not {_shown.repr(value)}")


def checked(*, loop: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check the options given to a door by the table before it does anything. loop: it is one of
    flipcall.asyncio. KeyError for a door with an option that is not in the table.
    """
    rules = {**_RULES, "interceptors": _LOOP_INTERCEPTORS} if loop else _RULES

    def decorate(door: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(door).parameters.values()
        places = [p.name for p in parameters]
        ruled = {p.name: rules[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY and p.name[0] != "_"}
        ruled["path"] = rules["path"]  # the one that is given by its place

        @wraps(door)
        def entered(*args: P.args, **kwargs: P.kwargs) -> R:
            for name, value in (*zip(places, args, strict=False), *kwargs.items()):
                if name in ruled:
                    _check(name, value, ruled[name])
            return door(*args, **kwargs)

        return entered

    return decorate
