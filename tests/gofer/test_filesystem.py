"""GoferFileSystem: fsspec's own contract suite, and what that leaves out."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

fsspec = pytest.importorskip("fsspec")

from fsspec.tests import abstract  # noqa: E402

from gofer.export import Export  # noqa: E402
from gofer.filesystem import GoferFileSystem  # noqa: E402
from gofer.server import GoferServer  # noqa: E402


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty tree to export, with a directory for the suite."""
    (tmp_path / "tree" / "top").mkdir(parents=True)
    return tmp_path / "tree"


@pytest.fixture
def server(tree: Path, tmp_path: Path) -> Iterator[GoferServer]:
    """A gofer in this process."""
    export = Export(tree)
    with GoferServer(export, str(tmp_path / "gofer.sock")) as found:
        yield found
    export.close()


@contextlib.contextmanager
def opened(server: GoferServer, **options: Any) -> Iterator[GoferFileSystem]:
    """A file system of that gofer, which is no longer cached afterwards."""
    found = GoferFileSystem(socket=server.path, **options)
    try:
        yield found
    finally:
        found.close()
        GoferFileSystem.clear_instance_cache()


@pytest.fixture
def fs(server: GoferServer) -> Iterator[GoferFileSystem]:
    """A file system of the gofer."""
    with opened(server) as found:
        yield found


class GoferFixtures(abstract.AbstractFixtures):
    """What the suite asks of an implementation."""

    @pytest.fixture
    def fs(self, server: GoferServer) -> Iterator[GoferFileSystem]:
        """The file system, with the option that the suite gives fsspec's local one."""
        with opened(server, auto_mkdir=True) as found:
            yield found

    @pytest.fixture
    def fs_path(self) -> str:
        """Where in the tree."""
        return "/top"


class TestCopy(abstract.AbstractCopyTests, GoferFixtures):
    """fsspec's suite: within the tree."""


class TestGet(abstract.AbstractGetTests, GoferFixtures):
    """fsspec's suite: out of it."""


class TestPut(abstract.AbstractPutTests, GoferFixtures):
    """fsspec's suite: into it."""


class TestOpen(abstract.AbstractOpenTests, GoferFixtures):
    """fsspec's suite: opening."""


class TestPipe(abstract.AbstractPipeTests, GoferFixtures):
    """fsspec's suite: whole contents."""


# ---- which gofer, which path -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("gofer:///a/b", "/a/b"),
        ("gofer://a/b", "/a/b"),
        ("gofer://%2Frun%2Fg.sock/a/b/", "/a/b"),
        ("gofer://%2frun%2fg.sock", "/"),
        ("gofer://", "/"),
        ("a/b", "/a/b"),
        ("/a//b", "/a//b"),
        ("", "/"),
    ],
)
def test_paths(given: str, path: str) -> None:
    """URLs and paths come to absolute paths in the tree."""
    assert GoferFileSystem._strip_protocol(given) == path


def test_url(fs: GoferFileSystem, server: GoferServer, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By entry point: fsspec opens gofer:// with the socket in options, in the URL or in the environment."""
    (tree / "file").write_bytes(b"content")
    encoded = server.path.replace("/", "%2F")
    with fsspec.open("gofer:///file", socket=server.path) as file:
        assert file.read() == b"content"
    found, path = fsspec.url_to_fs(f"gofer://{encoded}/file")
    assert (found.cat(path), found is fs) == (b"content", True)
    with pytest.raises(ValueError, match="which gofer"):
        fsspec.filesystem("gofer")
    monkeypatch.setitem(fsspec.config.conf, "gofer", {"socket": server.path})  # or $FSSPEC_GOFER_SOCKET
    assert fsspec.filesystem("gofer") is fs


# ---- files -------------------------------------------------------------------------------------------


def test_info(fs: GoferFileSystem, tree: Path) -> None:
    """Attributes of files, directories and links; a link's are those of what it leads to."""
    (tree / "file").write_bytes(b"12345")
    os.symlink("file", tree / "link")
    os.symlink("nowhere", tree / "dangling")
    os.mkfifo(tree / "fifo")
    assert {
        info["name"]: (info["type"], info["size"]) for info in fs.ls("/") if info["type"] != "directory"
    } == {
        "/file": ("file", 5),
        "/link": ("file", 5),
        "/dangling": ("link", 7),
        "/fifo": ("other", 0),
    }
    info = fs.info("link")
    assert (info["islink"], info["destination"]) == (True, "file")
    assert info["mtime"] == pytest.approx((tree / "file").stat().st_mtime)
    assert fs.modified("file").timestamp() == pytest.approx((tree / "file").stat().st_mtime)
    assert sorted(fs.ls("/", detail=False)) == ["/dangling", "/fifo", "/file", "/link", "/top"]
    assert fs.ls("/file", detail=False) == ["/file"]
    assert fs.exists("/dangling") is True  # the link is there
    assert fs.lexists("/nothing") is fs.exists("/nothing") is False
    with pytest.raises(FileNotFoundError):
        fs.ls("/nothing")
    assert fs.du("/") == sum(i["size"] for i in fs.find("/", detail=True).values())


@pytest.mark.parametrize("size", [0, 10, 3 << 20])
def test_write_then_read(fs: GoferFileSystem, tree: Path, size: int) -> None:
    """Through fsspec's buffers, forth and back, by lines and by seeking."""
    content = os.urandom(size // 2) + b"\n" + os.urandom(size // 2)
    with fs.open("/file", "wb", block_size=1 << 20) as file:
        for start in range(0, len(content), 70_000):
            file.write(content[start : start + 70_000])
    assert (tree / "file").read_bytes() == content == fs.cat("/file")
    with fs.open("/file", "rb") as file:
        assert b"".join(file) == content
        file.seek(-1, 2)
        assert file.read() == content[-1:]
    with fs.open("/file", "ab") as file:
        assert file.tell() == len(content)
        file.write(b"more")
    assert (tree / "file").read_bytes() == content + b"more"


def test_flush_writes(fs: GoferFileSystem, tree: Path) -> None:
    """What was flushed is there, however little it is."""
    with fs.open("/file", "wb") as file:
        file.write(b"a few")
        file.flush()
        assert (tree / "file").read_bytes() == b"a few"
        file.write(b" more")
    assert (tree / "file").read_bytes() == b"a few more"


def test_update_in_place(fs: GoferFileSystem, tree: Path) -> None:
    """r+b, which most file systems of fsspec do not have."""
    (tree / "file").write_bytes(b"0123456789")
    with fs.open("/file", "r+b") as file:
        file.seek(3)
        file.write(b"abc")
    assert (tree / "file").read_bytes() == b"012abc6789"


def test_text_and_compression(fs: GoferFileSystem, tree: Path) -> None:
    """The layers fsspec puts on top."""
    with fs.open("/file.gz", "wt", compression="infer", encoding="utf-8") as file:
        file.write("größer\n" * 1000)
    with fsspec.open(
        "gofer:///file.gz", "rt", compression="gzip", socket=fs.socket, encoding="utf-8"
    ) as file:
        assert file.read() == "größer\n" * 1000
    assert (tree / "file.gz").stat().st_size < 1000


def test_ranges(fs: GoferFileSystem, tree: Path) -> None:
    """Stretches of a file, counted from either end."""
    (tree / "file").write_bytes(b"0123456789")
    assert fs.cat_file("/file", 2, 5) == b"234"
    assert fs.cat_file("/file", -3) == b"789"
    assert fs.cat_file("/file", 8, 100) == b"89"
    assert fs.cat_file("/file", 5, 2) == b""
    assert fs.cat_ranges(["/file", "/file"], [0, 4], [1, 6]) == [b"0", b"45"]


@pytest.mark.parametrize("keep", [True, False])
def test_transaction(fs: GoferFileSystem, tree: Path, keep: bool) -> None:
    """All files of a transaction appear at its end, or none does and nothing is left."""
    (tree / "old").write_bytes(b"old")
    try:
        with fs.transaction:
            for name in ("old", "new"):
                with fs.open(f"/{name}", "wb") as file:
                    file.write(b"changed")
            assert (tree / "old").read_bytes() == b"old"
            assert not (tree / "new").exists()
            if not keep:
                raise KeyError
    except KeyError:
        pass
    expected = {"top", "old"} | ({"new"} if keep else set())
    assert set(os.listdir(tree)) == expected
    assert (tree / "old").read_bytes() == (b"changed" if keep else b"old")


def test_moving_and_removing(fs: GoferFileSystem, tree: Path) -> None:
    """mv renames whatever it is; rm -r takes links as links."""
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").touch()
    os.symlink("../../top", tree / "a" / "b" / "up")
    (tree / "top" / "kept").touch()
    fs.mv("/a", "/moved")
    assert fs.find("/moved") == ["/moved/b/file", "/moved/b/up"]
    fs.mv("/moved/b/file", "/top")
    assert (tree / "top" / "file").exists()
    with pytest.raises(IsADirectoryError):
        fs.rm("/moved")
    fs.rm("/moved", recursive=True)
    assert sorted(path.name for path in tree.rglob("*")) == ["file", "kept", "top"]
    fs.rm("/top/*")
    assert list((tree / "top").iterdir()) == []


def test_touch(fs: GoferFileSystem, tree: Path) -> None:
    """Touching makes, empties or renews."""
    fs.touch("/file")
    (tree / "file").write_bytes(b"content")
    os.utime(tree / "file", (0, 0))
    fs.touch("/file", truncate=False)
    assert (tree / "file").read_bytes() == b"content"
    assert (tree / "file").stat().st_mtime > 0
    fs.touch("/file")
    assert (tree / "file").read_bytes() == b""
    fs.chmod("/file", 0o600)
    assert (tree / "file").stat().st_mode & 0o777 == 0o600


# ---- processes and threads ---------------------------------------------------------------------------


def test_instances_are_cached(fs: GoferFileSystem, server: GoferServer) -> None:
    """The same arguments, the same connection; and pickling leads to it, too."""
    assert GoferFileSystem(socket=server.path) is fs
    assert pickle.loads(pickle.dumps(fs)) is fs
    other = GoferFileSystem(socket=server.path, auto_mkdir=True)
    assert other is not fs
    other.pipe("/new/dirs/file", b"content")
    assert fs.cat("/new/dirs/file") == b"content"
    other.close()


def test_open_file_is_pickled(fs: GoferFileSystem, tree: Path) -> None:
    """A file being read goes on where it was."""
    (tree / "file").write_bytes(b"0123456789")
    with fs.open("/file") as file:
        file.seek(4)
        with pickle.loads(pickle.dumps(file)) as again:
            assert again.read(3) == b"456"


def _read(fs: Any, pipe: Any) -> None:
    pipe.send((fs.cat("/file"), fs is GoferFileSystem(socket=fs.socket)))
    fs.close()
    pipe.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_process(fs: GoferFileSystem, tree: Path, method: str) -> None:
    """A child, forked or spawned, has a connection of its own; the parent's goes on."""
    (tree / "file").write_bytes(b"content")
    assert fs.cat("/file") == b"content"
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    child = context.Process(target=_read, args=(fs, there))
    child.start()
    there.close()
    assert here.recv()[0] == b"content"
    child.join(20)
    assert child.exitcode == 0
    here.close()
    child.close()
    assert fs.cat("/file") == b"content"


def test_threads(fs: GoferFileSystem, tree: Path) -> None:
    """Threads share one file system."""
    for number in range(8):
        (tree / f"{number}").write_bytes(b"%d" % number * 100_000)
    failed: list[int] = []

    def check(number: int) -> None:
        for _ in range(20):
            if fs.cat(f"/{number}") != b"%d" % number * 100_000:
                failed.append(number)

    threads = [threading.Thread(target=check, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_gofer_restarted(fs: GoferFileSystem, server: GoferServer, tree: Path) -> None:
    """After the gofer's end a call fails; when there is another, the next connects to it."""
    (tree / "file").write_bytes(b"content")
    assert fs.cat("/file") == b"content"
    server.stop()
    with pytest.raises((OSError, __import__("flipcall").FlipcallError)):
        fs.cat("/file")
    export = Export(tree)
    with GoferServer(export, server.path):
        assert fs.cat("/file") == b"content"
        fs.close()
    export.close()


def test_donated_descriptor(tree: Path, tmp_path: Path) -> None:
    """Where the gofer hands out descriptors, an open file is read without it, even after its end."""
    content = os.urandom(12 << 20)
    (tree / "file").write_bytes(content)
    export = Export(tree, donate=True)
    server = GoferServer(export, str(tmp_path / "donor.sock"))
    with server, opened(server) as fs, fs.open("/file", "rb") as file:
        assert file.read(1 << 20) == content[: 1 << 20]
        server.stop()
        assert file.read() == content[1 << 20 :]
    export.close()


# ---- those who read through it -----------------------------------------------------------------------


def test_pandas(fs: GoferFileSystem, tree: Path) -> None:
    """pandas reads and writes gofer:// URLs."""
    pandas = pytest.importorskip("pandas")
    (tree / "data.csv").write_text("a,b\n" + "".join(f"{n},{n * n}\n" for n in range(1000)))
    options = {"socket": fs.socket}
    frame = pandas.read_csv("gofer:///data.csv", storage_options=options)
    assert frame["b"].sum() == sum(n * n for n in range(1000))
    frame.to_csv("gofer:///again.csv", index=False, storage_options=options)
    assert (tree / "again.csv").read_bytes() == (tree / "data.csv").read_bytes()
    assert len(pandas.read_csv(f"gofer://{str(fs.socket).replace('/', '%2F')}/data.csv")) == 1000


def test_pyarrow(fs: GoferFileSystem, tree: Path) -> None:
    """A partitioned data set is written and read through the gofer."""
    pyarrow = pytest.importorskip("pyarrow")
    dataset = pytest.importorskip("pyarrow.dataset")
    table = pyarrow.table({"part": [n % 3 for n in range(1000)], "n": list(range(1000))})
    dataset.write_dataset(table, "/set", format="parquet", partitioning=["part"], filesystem=fs)
    assert len(list((tree / "set").rglob("*.parquet"))) == 3
    files = dataset.dataset("/set", filesystem=fs, partitioning=["part"])
    found = files.to_table(filter=dataset.field("part") == 1)
    assert sorted(found["n"].to_pylist()) == list(range(1, 1000, 3))
    gc.collect()
