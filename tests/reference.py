"""docs/reference.md, made from the doors' own words: `python -m tests.reference` writes it, a test compares."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

from tests.support import REPOSITORY

TARGET = REPOSITORY / "docs/reference.md"
# Modules with the names each offers: None is __all__.
DOORS: dict[str, list[str] | None] = {
    "flipcall": None,
    "flipcall.asyncio": None,
    "flipcall.interceptor": [
        "ClientCall",
        "ServerCall",
        "ClientInterceptor",
        "ServerInterceptor",
        "Observer",
    ],
    "flipcall.asyncio.health": ["Health"],
    "flipcall.asyncio.interceptor": ["ClientInterceptor", "ServerInterceptor"],
    "flipcall.metadata": ["forward"],
    "flipcall.retry": ["Retry", "unavailable"],
    "flipcall.calllog": ["log_calls"],
    "flipcall.health": ["Health", "HealthServer"],
    "flipcall.reflection": ["Reflection", "Described"],
    "flipcall.stats": ["Statistics", "ServerStats", "MethodStats", "ChannelStats"],
    "flipcall.meter": ["Counts", "quantile_us"],
    "flipcall.schema": ["service_schema"],
    "flipcall.otel": ["client", "server"],
    "flipcall.prometheus": ["ServerCollector", "client"],
    "flipcall.testing": None,
    "flipcall.conformance": None,
    "flipcall.lowlevel": None,
}
_HEAD = """\
# Reference

Made from the docstrings by `python -m tests.reference`; a test holds it to them. The [tutorial](tutorial.md)
says what is for what.
"""


def text() -> str:
    """The whole document."""
    return "\n".join([_HEAD, *(part for name, names in DOORS.items() for part in _module(name, names))])


def _module(name: str, names: list[str] | None) -> Iterator[str]:
    module = importlib.import_module(name)
    yield f"## {name}\n"
    yield _quoted(module)
    for each in sorted(names if names is not None else module.__all__, key=str.lower):
        yield from _named(f"{name}.{each}", getattr(module, each))


def _named(name: str, value: Any) -> Iterator[str]:
    short = name.rpartition(".")[2]
    if inspect.isclass(value):
        bases = [b.__name__ for b in value.__bases__ if b is not object and not _unlisted(b)]
        yield f"### class {short}{'(' + ', '.join(bases) + ')' if bases else ''}\n"
        if "__init__" in vars(value) or hasattr(value, "__struct_fields__"):
            yield _code(f"{short}{_signature(value)}")
        yield _quoted(value)
        members = {
            m: v for c in (*filter(_unlisted, reversed(value.__mro__)), value) for m, v in vars(c).items()
        }
        for member, found in sorted(members.items()):
            yield from _member(short, member, found)
    elif callable(value) and hasattr(value, "__name__"):
        yield f"### {short}()\n"
        yield _code(f"{short}{_signature(value)}")
        yield _quoted(value)
    else:
        yield f"### {short}\n"
        yield _code(f"{short} = {_plain(str(value))}")


def _unlisted(base: type) -> bool:
    """Whether it is a part of classes that are listed, and not listed itself: its members are told as theirs."""
    return base.__name__ == "Struct" or (
        base.__module__.startswith("flipcall") and not any(base in _listed(name) for name in DOORS)
    )


def _listed(name: str) -> list[Any]:
    module = importlib.import_module(name)
    return [getattr(module, each) for each in DOORS[name] or getattr(module, "__all__", ())]


def _member(owner: str, name: str, value: Any) -> Iterator[str]:
    if name.startswith("_"):
        return
    function = getattr(value, "__func__", value)
    if isinstance(value, property):
        yield f"**{owner}.{name}**\n"
        yield _quoted(value)
    elif inspect.isfunction(function):
        yield f"**{owner}.{name}**`{_signature(function)}`\n"
        yield _quoted(function)


def _signature(value: Any) -> str:
    try:
        return _plain(str(inspect.signature(value)))
    except ValueError:
        return "()"


def _plain(shown: str) -> str:
    """Types without the modules they are from, and no addresses, which differ from run to run."""
    shown = re.sub(r" at 0x[0-9a-f]+", "", shown)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z_])", "", shown).replace("'", '"')


def _code(line: str) -> str:
    return f"```python\n{line}\n```\n"


def _quoted(value: Any) -> str:
    doc = inspect.getdoc(value)
    return f"```text\n{doc}\n```\n" if doc else ""


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
