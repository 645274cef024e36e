"""AsyncGoferFileSystem: fsspec's contract suite, and what asyncio asks beyond it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec")
pytest.importorskip("greenlet")

from fsspec.asyn import get_loop
from fsspec.tests import abstract

import flipcall
from gofer.awaiting import AwaitingClient, run
from gofer.export import Export
from gofer.filesystem import GoferFileSystem
from gofer.filesystem.asynchronous import AsyncGoferFileSystem
from gofer.server import GoferServer
from gofer.session import Session

get_loop()  # fsspec's own, for who is in none: it is made once, and kept as long as the process


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree to export."""
    (tmp_path / "tree" / "dir").mkdir(parents=True)
    for number in range(8):
        (tmp_path / "tree" / "dir" / f"{number}").write_bytes(b"content of %d" % number)
    return tmp_path / "tree"


@pytest.fixture
def server(tree: Path, tmp_path: Path) -> Iterator[GoferServer]:
    """A gofer in this process."""
    export = Export(tree)
    with GoferServer(export, str(tmp_path / "gofer.sock")) as found:
        yield found
    export.close()
    AsyncGoferFileSystem.clear_instance_cache()
    GoferFileSystem.clear_instance_cache()


@contextlib.asynccontextmanager
async def opened(server: GoferServer, **options: Any) -> Any:
    """A file system for this loop."""
    files = AsyncGoferFileSystem(socket=server.path, asynchronous=True, **options)
    try:
        yield files
    finally:
        await files.aclose()


class Fixtures(abstract.AbstractFixtures):
    """What the suite asks of an implementation; it uses it from outside of any loop."""

    @pytest.fixture
    def fs(self, server: GoferServer) -> Iterator[AsyncGoferFileSystem]:
        """The file system, with the option that the suite gives fsspec's local one."""
        found = AsyncGoferFileSystem(socket=server.path, auto_mkdir=True)
        yield found
        found.close()

    @pytest.fixture
    def fs_path(self, tree: Path) -> str:
        """Where in the tree."""
        (tree / "top").mkdir()
        return "/top"


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    """fsspec's suite: within the tree."""


class TestGet(abstract.AbstractGetTests, Fixtures):
    """fsspec's suite: out of it."""


class TestPut(abstract.AbstractPutTests, Fixtures):
    """fsspec's suite: into it."""


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    """fsspec's suite: opening."""


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    """fsspec's suite: whole contents."""


def test_reading(server: GoferServer, tree: Path) -> None:
    """Attributes, listings and contents, many at once, are what the synchronous file system gives."""
    os.symlink("dir", tree / "link")
    os.symlink("../dir/3", tree / "dir" / "other")
    wanted = GoferFileSystem(socket=server.path)

    async def read() -> None:
        async with opened(server) as fs:
            names = sorted(await fs._ls("/dir", detail=False))
            assert names == sorted(wanted.ls("/dir", detail=False))
            assert await fs._cat(names) == {name: wanted.cat_file(name) for name in names}
            assert await asyncio.gather(*map(fs._info, names)) == [wanted.info(name) for name in names]
            assert await fs._cat_file("/link/../dir/other", start=8) == b"of 3"
            assert sorted(await fs._find("/dir")) == names
            with pytest.raises(FileNotFoundError):
                await fs._cat_file("/no")

    asyncio.run(read())
    wanted.close()


def test_writing(server: GoferServer, tree: Path, tmp_path: Path) -> None:
    """Files are written, copied both ways, moved and removed, many at once."""
    (tmp_path / "local").write_bytes(b"x" * 3_000_000)

    async def write() -> None:
        async with opened(server) as fs:
            await asyncio.gather(*(fs._pipe_file(f"/dir/new{number}", b"new") for number in range(40)))
            assert len(await fs._ls("/dir")) == 48
            await fs._cp_file("/dir/new0", "/copied")
            await fs._mkdir("/made")
            await fs._mv("/copied", "/made/moved")
            await fs._put_file(str(tmp_path / "local"), "/made/big")
            await fs._get_file("/made/big", str(tmp_path / "back"))
            await fs._rm("/dir", recursive=True)

    asyncio.run(write())
    assert (tmp_path / "back").read_bytes() == (tmp_path / "local").read_bytes()
    assert sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*")) == [
        "made",
        "made/big",
        "made/moved",
    ]
    assert (tree / "made" / "moved").read_bytes() == b"new"


def test_piece_by_piece(server: GoferServer, tree: Path) -> None:
    """Files are read, made, replaced and written on without being held whole; closing them gives them back."""
    content = os.urandom(12_000_000)

    async def pieces() -> None:
        async with opened(server) as fs:
            async with await fs.open_async("/new", "wb") as file:
                for start in range(0, len(content), 1_000_000):
                    await file.write(content[start : start + 1_000_000])
            async with await fs.open_async("/new", "ab") as file:
                assert file.tell() == len(content)
                await file.write(b"end")
            async with await fs.open_async("/new") as file:
                assert await file.read(5) == content[:5]
                file.seek(11_999_998)
                assert await file.read() == content[-2:] + b"end"
                assert await file.read(5) == b""
            with pytest.raises(FileNotFoundError):
                await fs.open_async("/no")
            with pytest.raises(NotImplementedError):
                await fs.open_async("/new", "r+b")

    asyncio.run(pieces())
    assert (tree / "new").read_bytes() == content + b"end"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Reading a link waits in the server: entered, and may leave."""
    entered, leave = threading.Event(), threading.Event()
    before = Session.readlink

    def readlink(self: Session, fid: int) -> bytes:
        entered.set()
        assert leave.wait(20)
        return before(self, fid)

    monkeypatch.setattr(Session, "readlink", readlink)
    yield entered, leave
    leave.set()


async def until(event: threading.Event) -> None:
    """Lets the loop run until it is set."""
    while not event.is_set():
        await asyncio.sleep(0)


def test_a_slow_operation_holds_up_no_other(
    server: GoferServer, tree: Path, slow: tuple[threading.Event, threading.Event]
) -> None:
    """While one waits for its answer, the loop runs other tasks, and theirs are answered; in this one thread."""
    os.symlink("0", tree / "dir" / "link")
    entered, leave = slow

    async def overlap() -> None:
        async with opened(server) as fs:
            assert await fs._cat_file("/dir/1") == b"content of 1"
            content = asyncio.create_task(fs._cat_file("/dir/link"))
            await until(entered)
            for number in range(8):
                assert (await fs._info(f"/dir/{number}"))["size"] == len(b"content of 0")
            assert not content.done()
            leave.set()
            assert await content == b"content of 0"

    asyncio.run(overlap())


def test_cancelling(server: GoferServer, tree: Path, slow: tuple[threading.Event, threading.Event]) -> None:
    """A task that is cancelled ends at once, although the gofer does not, and what it held is given back."""
    os.symlink("0", tree / "dir" / "link")
    entered, leave = slow

    async def cancel() -> None:
        async with opened(server) as fs:
            await fs._info("/dir")
            content = asyncio.create_task(fs._cat_file("/dir/link"))
            await until(entered)
            content.cancel()
            with pytest.raises(asyncio.CancelledError):
                await content
            assert not leave.is_set()
            client = (await fs._connected()).client
            assert client._released, "the control FIDs of the walk are due to be closed"
            leave.set()
            assert await fs._cat_file("/dir/link") == b"content of 0"

    asyncio.run(cancel())


def test_every_loop_has_a_connection_of_its_own(server: GoferServer) -> None:
    """One after the other and at the same time; a loop that is over leaves nothing behind."""
    fs = AsyncGoferFileSystem(socket=server.path, asynchronous=True)

    async def read() -> bytes:
        return bytes(await fs._cat_file("/dir/0"))

    assert asyncio.run(read()) == b"content of 0"
    before = len(os.listdir("/proc/self/fd"))
    assert [asyncio.run(read()) for _ in range(3)] == [b"content of 0"] * 3
    assert len(os.listdir("/proc/self/fd")) == before

    both = threading.Barrier(2)

    async def read_together() -> None:
        await read()
        both.wait(20)
        assert await read() == b"content of 0"
        await fs.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(read_together(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    async def close() -> None:
        await read()  # which ends the first loop's
        await fs.aclose()

    asyncio.run(close())


def test_the_gofer_is_gone_and_back(tree: Path, tmp_path: Path) -> None:
    """A call says so; the next connects anew."""
    export = Export(tree)
    path = str(tmp_path / "gofer.sock")

    async def restart() -> None:
        first = GoferServer(export, path)
        with first:
            fs = AsyncGoferFileSystem(socket=path, asynchronous=True)
            assert (await fs._info("/dir/0"))["type"] == "file"
        with pytest.raises((flipcall.FlipcallError, OSError)):
            await fs._info("/dir/0")
        with GoferServer(export, path):
            assert await fs._cat_file("/dir/0") == b"content of 0"
            await fs.aclose()

    asyncio.run(restart())
    export.close()
    AsyncGoferFileSystem.clear_instance_cache()


def test_pickled(server: GoferServer) -> None:
    """What is unpickled connects by itself."""

    async def read() -> None:
        async with opened(server) as fs:
            await fs._info("/")
            there = pickle.loads(pickle.dumps(fs))
            assert await there._cat_file("/dir/2") == b"content of 2"
            await there.aclose()

    asyncio.run(read())


def test_outside_of_run(server: GoferServer) -> None:
    """A client of a loop that is asked where nothing can be awaited says so, and does not hang."""

    async def ask() -> None:
        client = await run(AwaitingClient, server.path)
        with pytest.raises(flipcall.MisuseError, match="run"):
            client.stat("/dir/0")
        assert (await run(client.stat, "/dir/0")).size == len(b"content of 0")
        client.close()

    asyncio.run(ask())
