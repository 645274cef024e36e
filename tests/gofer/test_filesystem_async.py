"""GoferFileSystem for asyncio: fsspec's wrapper gives each call a thread, the client each thread a channel."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec.implementations.asyn_wrapper")

from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

from gofer.export import Export
from gofer.filesystem import GoferFileSystem
from gofer.server import GoferServer


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree to export."""
    (tmp_path / "tree" / "dir").mkdir(parents=True)
    for number in range(8):
        (tmp_path / "tree" / "dir" / f"{number}").write_bytes(b"content of %d" % number)
    return tmp_path / "tree"


@pytest.fixture
def files(tree: Path, tmp_path: Path) -> Iterator[GoferFileSystem]:
    """The file system of a gofer in this process."""
    export = Export(tree)
    with GoferServer(export, str(tmp_path / "gofer.sock")) as server:
        found = GoferFileSystem(socket=server.path)
        yield found
        found.close()
        GoferFileSystem.clear_instance_cache()
    export.close()


def run(files: GoferFileSystem, what: Any) -> Any:
    """What a coroutine function gives for the file system, in a loop of its own."""

    async def main() -> Any:
        return await what(AsyncFileSystemWrapper(files, asynchronous=True))

    return asyncio.run(main())


def test_reading(files: GoferFileSystem) -> None:
    """Attributes, listings and contents, many at once, are what the synchronous file system gives."""

    async def read(fs: AsyncFileSystemWrapper) -> None:
        names = await fs._ls("/dir", detail=False)
        assert sorted(names) == sorted(files.ls("/dir", detail=False))
        assert await fs._cat(names) == {name: files.cat_file(name) for name in names}
        assert await asyncio.gather(*map(fs._info, names)) == [files.info(name) for name in names]
        assert await fs._cat_file("/dir/3", start=8) == b"of 3"
        assert sorted(await fs._find("/")) == sorted(names)
        with pytest.raises(FileNotFoundError):
            await fs._cat_file("/no")

    run(files, read)


def test_writing(files: GoferFileSystem, tree: Path) -> None:
    """Files are written, copied, moved and removed."""

    async def write(fs: AsyncFileSystemWrapper) -> None:
        await asyncio.gather(*(fs._pipe_file(f"/dir/new{number}", b"new") for number in range(8)))
        await fs._cp_file("/dir/new0", "/copied")
        await fs._mkdir("/made")
        await fs._mv("/copied", "/made/moved")
        await fs._rm("/dir", recursive=True)

    run(files, write)
    assert [path.relative_to(tree).as_posix() for path in sorted(tree.rglob("*"))] == ["made", "made/moved"]
    assert (tree / "made" / "moved").read_bytes() == b"new"


def test_the_loop_goes_on(files: GoferFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a call waits for the gofer, the loop runs other tasks, and calls on other files are answered."""
    entered, leave = threading.Event(), threading.Event()
    before = files.client.stat

    def slow(path: str) -> Any:
        entered.set()
        assert leave.wait(10)
        return before(path)

    monkeypatch.setattr(files.client, "lstat", slow)

    async def overlap(fs: AsyncFileSystemWrapper) -> None:
        info = asyncio.create_task(fs._info("/dir/0"))
        while not entered.is_set():
            await asyncio.sleep(0)
        assert await fs._cat_file("/dir/1") == b"content of 1"
        assert not info.done()
        leave.set()
        assert (await info)["size"] == len(b"content of 0")

    run(files, overlap)
