"""What the gofer's tests share: a tree to export, sessions called directly, clients of a real server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gofer_support import Connect, plant
from mount_support import Mounted

import flipcall
from gofer.client import GoferClient, Transport
from gofer.export import Export
from gofer.server import GoferServer
from gofer.session import Session


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree of everything, beside a secret that is not in it."""
    return plant(tmp_path)


@pytest.fixture
def at(shared: Mounted, request: pytest.FixtureRequest) -> Path:
    """The test's directory, on its module's mount `shared`."""
    path = shared.at / request.node.name
    path.mkdir()
    return path


@pytest.fixture
def host(shared: Mounted, at: Path) -> Path:
    """The same directory at the gofer's."""
    return shared.tree / at.name


class FakeContext:
    """flipcall.context() for a session that is called directly: replies go to memory of their own."""

    def reply_view(self, size: int) -> memoryview:
        """As the library's, without a window."""
        return memoryview(bytearray(size))


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operations be called without a call."""
    monkeypatch.setattr(flipcall, "context", FakeContext)


@pytest.fixture
def make_session(tree: Path, direct: None) -> Iterator[Callable[..., Session]]:
    """Sessions over the tree, ended with the test; keywords are Export's."""
    with contextlib.ExitStack() as stack:

        def make(path: Path = tree, **terms: object) -> Session:
            export = Export(path, **terms)  # type: ignore[arg-type]
            stack.callback(export.close)
            session = Session(export)
            stack.callback(session.on_disconnect)
            return session

        yield make


@pytest.fixture
def session(make_session: Callable[..., Session]) -> Session:
    """One session over the tree."""
    return make_session()


@pytest.fixture
def root(session: Session) -> int:
    """Control FID of the tree's root."""
    return session.mount().root.fid


@pytest.fixture(params=["window", "socket"])
def transport(request: pytest.FixtureRequest) -> Transport:
    """How calls travel."""
    return "window" if request.param == "window" else "socket"


@pytest.fixture
def connect(tree: Path, transport: Transport, tmp_path: Path) -> Iterator[Connect]:
    """Clients over the transport; each set of terms has a server of its own, in threads of this process."""
    terms_of_export = ("read_only", "max_fids", "donate", "sockets")
    servers: dict[tuple[tuple[str, Any], ...], GoferServer] = {}
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> GoferClient:
            terms = {name: options.pop(name) for name in terms_of_export if name in options}
            key = tuple(terms.items())
            if key not in servers:
                export = Export(tree, **terms)
                stack.callback(export.close)
                path = str(tmp_path / f"socket{len(servers)}")
                servers[key] = GoferServer(export, path)
                stack.enter_context(servers[key])
            client = GoferClient(servers[key].path, transport=transport, **options)
            stack.callback(client.close)
            return client

        yield make
