"""The doors of the package, and that inside it imports only go down."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import flipcall
import flipcall.asyncio
import flipcall.lowlevel

PACKAGE = Path(flipcall.__file__).parent

EVERYDAY = {
    "BusyError",
    "CallError",
    "ClosedError",
    "Context",
    "DeadlineExceeded",
    "Fd",
    "FlipcallError",
    "ForkedError",
    "MisuseError",
    "Peer",
    "PeerDiedError",
    "PeerError",
    "ProtocolError",
    "RemoteError",
    "Server",
    "Service",
    "Status",
    "UnsupportedError",
    "WaitPolicy",
    "WindowError",
    "connect",
    "context",
    "filled",
    "into",
    "register_error",
    "serve",
    "view",
    "with_options",
}

# From the bottom up; a module imports from its own layer and from those below.
LAYERS = [
    ["_core", "_fast", "status", "errors", "syscalls", "process", "cpus", "kernel"],
    ["buffers", "fast", "fd", "fds", "unions", "rights", "window", "allocator", "named", "liveness"],
    ["handover", "survey", "limits"],
    ["policy", "switch", "options", "notify", "placement", "outcome", "greeting", "endpoint"],
    ["frame", "meter", "filled", "landing", "bulk", "ndarray", "items", "shape", "compat", "method"],
    ["details", "failure", "service", "schema", "handshake"],
    ["observed", "context", "interceptor", "metadata"],
    ["control", "channel", "flow", "stream", "streams", "socketflow", "socketchannel"],
    ["pool", "dispatch", "serving", "socketserving", "session", "listener"],
    ["agreement", "health", "reflection", "stats"],
    ["builtin", "terms", "stopping", "host"],
    [
        "admission",
        "connection",
        "watcher",
        "dialer",
        "stub",
        "client",
        "views",
        "worker",
        "workers",
        "acceptor",
    ],
    ["front", "floor"],
    ["server", "dynamic"],
    ["inprocess", "localflow", "retry", "calllog", "otel", "prometheus"],
    ["__init__", "lowlevel", "testing"],
    ["asyncio"],
    ["cli"],
    ["conformance"],
]
LAYER_OF = {name: layer for layer, names in enumerate(LAYERS) for name in names}


def _modules() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if "core" not in p.relative_to(PACKAGE).parts[:-1]]


def _name(path: Path) -> str:
    """The module, or the package below flipcall that it is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """The modules of flipcall that a file imports, wherever in the file."""
    depth = len(path.relative_to(PACKAGE).parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            found |= {node.module.split(".")[0]} if node.module else {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flipcall":
            found.add([*(node.module or "").split("."), "__init__"][1])
    return found


def test_the_everyday_door_has_these_names_and_no_more() -> None:
    """A name is added on purpose, and the door stays small."""
    assert sorted(flipcall.__all__) == sorted(EVERYDAY)
    assert len(EVERYDAY) <= 28


@pytest.mark.parametrize("door", [flipcall, flipcall.asyncio, flipcall.lowlevel], ids=lambda d: d.__name__)
def test_every_name_of_a_door_is_there_and_documented(door: object) -> None:
    """What a door lists exists and says what it is."""
    for name in door.__all__:  # type: ignore[attr-defined]
        assert (getattr(door, name).__doc__ or "").strip(), name


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_go_down(path: Path) -> None:
    """No module imports from a layer above its own; a new module must be given a layer."""
    mine = LAYER_OF[_name(path)]
    above = sorted(name for name in _imports(path) if LAYER_OF.get(name, -1) > mine)
    assert not above, f"{path.name} imports {', '.join(above)} from above"
