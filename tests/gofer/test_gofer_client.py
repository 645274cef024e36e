"""The client against a real server, over both transports: a tree read byte for byte, files written, paths
resolved.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from gofer_support import LATIN1, Connect, fails

import flipcall
from gofer import names
from gofer.protocol import Place
from gofer.tree import digest, walk

BIG = 3 * (1 << 20) + 17
"""More than three windows."""


def local_digests(top: bytes) -> dict[bytes, str]:
    """What is in a tree, read without the gofer."""
    found: dict[bytes, str] = {}
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "rb") as file:
                    found[os.path.relpath(path, top)] = hashlib.sha256(file.read()).hexdigest()
    return found


def test_a_whole_tree_byte_for_byte(connect: Connect, tree: Path) -> None:
    """Every file's digest through the gofer is the original's: odd names, empty, larger than the window,
    sparse.
    """
    (tree / "big").write_bytes(random.Random(1).randbytes(BIG))
    (tree / "window").write_bytes(random.Random(2).randbytes(1 << 20))
    with open(tree / "sparse", "wb") as file:
        file.seek(5 << 20)
        file.write(b"end")
    with connect() as client:
        read = {
            found.path: digest(client, found.path).sha256
            for found in walk(client)
            if stat.S_ISREG(found.stat.mode)
        }
    assert read == local_digests(os.fsencode(tree))
    assert LATIN1 in read


@pytest.mark.parametrize("window_size", [4096, 8192, 1 << 16])
def test_small_windows(connect: Connect, tree: Path, window_size: int) -> None:
    """Reads, writes, listings and walks are cut to what the client's window takes."""
    content = random.Random(3).randbytes(300_000)
    (tree / "file").write_bytes(content)
    deep = tree
    for _ in range(40):
        deep /= "down"
    deep.mkdir(parents=True)
    for number in range(300):
        (deep / f"{number:03}{'x' * (number % 200)}").touch()
    path = deep.relative_to(tree)
    with connect(window_size=window_size) as client:
        assert client.read_bytes("file") == content
        client.write_bytes(path / "copy", content)
        assert (deep / "copy").read_bytes() == content
        assert sorted(client.listdir(path)) == sorted(os.listdir(deep))
        assert client.stat(path).ino == deep.stat().st_ino


@pytest.mark.parametrize("transport", ["window"], indirect=True)
def test_a_read_larger_than_the_window(connect: Connect) -> None:
    """The library sends an answer in parts that the window cannot hold."""
    with connect(window_size=8192) as client:
        node = client.gofer.walk(client.root.fid, [b"hello"]).inodes[0]
        fid = client.gofer.open(node.fid, os.O_RDONLY).fid
        assert client.gofer.read(fid, 0, 1 << 20) == b"hello, world\n"
        assert client.gofer.read(fid, 0, 5) == b"hello"


def test_stat_and_readlink(connect: Connect, tree: Path) -> None:
    """As os.stat, os.lstat and os.readlink have it."""
    with connect() as client:
        for path in (
            "hello",
            "/dir/deep",
            "link",
            "dirlink/deep/file",
            "dir/../hello",
            "./dir//deep/",
            "up",
            "/",
        ):
            told = client.stat(path)
            there = tree if path in ("up", "/") else tree / path.lstrip("/")
            assert told.ino == os.stat(there).st_ino, path
        for path in ("link", "out", "loop"):
            assert client.lstat(path).ino == os.lstat(tree / path).st_ino
        assert client.readlink("out") == b"../secret"
        assert client.exists("hello")
        assert not client.exists("nothing")
        assert not client.exists("out")


def test_links_that_lead_out_lead_nowhere(connect: Connect, tree: Path) -> None:
    """The root is its own parent and links' `/`: what they point at outside is not there."""
    (tree / "etc").mkdir()
    (tree / "etc" / "mine").write_bytes(b"inside")
    os.symlink("/etc/mine", tree / "rooted")
    os.symlink("../../../../etc/passwd", tree / "dir" / "passwd")
    with connect() as client:
        assert client.read_bytes("rooted") == b"inside"
        assert client.read_bytes("up/up/up/etc/mine") == b"inside"
        for path in (
            "out",
            "absolute",
            "dir/passwd",
            "../secret",
            "up/secret",
            "dir/../../secret",
            "/etc/passwd",
        ):
            with pytest.raises(FileNotFoundError) as caught:
                client.read_bytes(path)
            assert caught.value.filename == path
        with fails(errno.ELOOP):
            client.read_bytes("loop")
        with fails(errno.ELOOP):
            client.open_raw("link", os.O_RDONLY | os.O_NOFOLLOW)


def test_errors_are_as_of_os(connect: Connect, tree: Path) -> None:
    """Type, errno and path, for the usual mistakes."""
    with connect() as client:
        for attempt, kind in (
            (lambda: client.stat("hello/x"), NotADirectoryError),
            (lambda: client.stat("hello/"), NotADirectoryError),
            (lambda: client.stat("hello/.."), NotADirectoryError),
            (lambda: client.stat(""), FileNotFoundError),
            (lambda: client.stat("nothing/x"), FileNotFoundError),
            (lambda: client.listdir("hello"), NotADirectoryError),
            (lambda: client.open("dir", "wb"), IsADirectoryError),
            (lambda: client.read_bytes("dir"), IsADirectoryError),
            (lambda: client.open("new/", "wb"), IsADirectoryError),
            (lambda: client.open("hello", "x"), FileExistsError),
            (lambda: client.open("loop", "x"), FileExistsError),
            (lambda: client.mkdir("dir"), FileExistsError),
            (lambda: client.mkdir("nothing/dir"), FileNotFoundError),
            (lambda: client.rmdir("hello"), NotADirectoryError),
            (lambda: client.unlink("dir"), IsADirectoryError),
            (lambda: client.unlink("nothing"), FileNotFoundError),
            (lambda: client.rename("nothing", "x"), FileNotFoundError),
        ):
            with pytest.raises(kind) as caught:
                attempt()
            assert caught.value.errno
        with fails(errno.EINVAL):
            client.stat("a\0b")
        with fails(errno.ENAMETOOLONG):
            client.stat("x" * 256)
        with fails(errno.EINVAL):
            client.rmdir("dir/..")


def test_open_modes(connect: Connect, tree: Path) -> None:
    """The built-in open's modes do what they do locally."""
    with connect() as client:
        with client.open("new", "x") as text:
            text.write("grüß\nGott\n")
        assert (tree / "new").read_text("utf-8") == "grüß\nGott\n"
        with client.open("new") as text:
            assert list(text) == ["grüß\n", "Gott\n"]
        with client.open("new", "ab") as file:
            file.write(b"more")
        with client.open("new", "r+b") as file:
            file.seek(-4, io.SEEK_END)
            assert file.read() == b"more"
            file.seek(0)
            file.write(b"GR")
        assert (tree / "new").read_bytes() == b"GR" + "üß\nGott\nmore".encode()
        with client.open("new", "w+b") as file:
            file.write(b"anew")
            file.seek(0)
            assert file.read() == b"anew"
        with client.open("hello", "rb", buffering=0) as file, pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        with client.open("hello", "wb", buffering=0) as file, pytest.raises(io.UnsupportedOperation):
            file.read()
        with pytest.raises(ValueError, match="invalid mode"):
            client.open("hello", "rw")
        os.symlink("made", tree / "dangling")
        client.write_bytes("dangling", b"through the link")
        assert (tree / "made").read_bytes() == b"through the link"


def test_write_larger_than_the_window(connect: Connect, tree: Path) -> None:
    """Cut, written and read back whole."""
    content = random.Random(4).randbytes(BIG)
    with connect() as client:
        client.write_bytes("big", content)
        assert (tree / "big").read_bytes() == content
        assert client.read_bytes("big") == content
        with client.open("big", "rb") as file:
            file.seek(1 << 20)
            assert file.read(2 << 20) == content[1 << 20 : 3 << 20]


def test_change_the_tree(connect: Connect, tree: Path) -> None:
    """Made, renamed, removed, by text, bytes and path objects, with names that are no UTF-8."""
    odd = b"\xff\xfe"
    with connect() as client:
        client.mkdir(Path("dir/new"))
        client.write_bytes(b"dir/new/" + odd, b"x")
        assert client.listdir("dir/new") == [names.decode(odd)]
        client.rename(b"dir/new/" + odd, names.decode(odd) + "2")
        assert (odd + b"2") in os.listdir(os.fsencode(tree))
        client.unlink(names.decode(odd) + "2")
        client.rmdir("dir/new/")
        assert os.listdir(tree / "dir") == ["deep"]


def test_control_fids_are_given_back(connect: Connect) -> None:
    """A client that works for long does not collect FIDs at the server."""
    with connect(max_fids=200) as client:
        for _ in range(200):
            client.read_bytes("dir/deep/file")
            client.stat("dirlink/deep/file")
            assert client.listdir("dir") == ["deep"]
            with pytest.raises(FileNotFoundError):
                client.read_bytes("dir/deep/nothing")


def test_an_abandoned_listing_gives_its_fid_back(connect: Connect) -> None:
    """A generator that is not run to its end closes the directory; one never begun never opened it."""
    with connect(max_fids=100) as client:
        for _ in range(300):
            next(client.scandir("/")) if _ % 2 else client.scandir("/")


def test_fids_for_direct_use(connect: Connect, tree: Path) -> None:
    """A path's control FID is the caller's: it is good for calls, links followed, and closing it hurts
    nobody.
    """
    with connect() as client:
        for path, there in (
            ("dirlink/deep/file", tree / "dir/deep/file"),
            ("/", tree),
            ("hello", tree / "hello"),
        ):
            fid = client.fid(path)
            assert client.gofer.stat(fid).ino == there.stat().st_ino
            client.gofer.close_fids([fid])
        with pytest.raises(FileNotFoundError):
            client.fid("nothing")
        assert client.read_bytes("hello") == b"hello, world\n"


def test_files_after_the_client_is_closed(connect: Connect) -> None:
    """Using one is an error; closing one is not."""
    client = connect()
    file = client.open("hello", "rb")
    client.close()
    client.close()
    with pytest.raises(flipcall.ClosedError):
        file.read()
    file.close()


def test_many_threads_one_client(connect: Connect, tree: Path) -> None:
    """Eight threads at once on one client, each with its own files: every byte is theirs."""
    failures: list[BaseException] = []
    with connect(max_channels=4) as client:

        def run(number: int) -> None:
            try:
                content = bytes([number]) * (100_000 + number)
                for round_ in range(10):
                    name = f"{number}-{round_}"
                    client.write_bytes(name, content)
                    assert client.read_bytes(name) == content
                    assert client.stat(name).size == len(content)
                    client.rename(name, name + ".done")
                    client.unlink(name + ".done")
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures, failures


def test_clients_do_not_share_fids(connect: Connect) -> None:
    """A FID of one client is EBADF in another."""
    with connect() as one, connect() as two:
        with fails(errno.EBADF):
            two.gofer.stat(one.root.fid)
        with fails(errno.EBADF):
            two.gofer.walk(one.root.fid, [b"hello"])
        with fails(errno.EBADF):
            two.gofer.create(Place(one.root.fid, b"x"), os.O_RDWR, 0o644, None)
        assert two.stat("hello").size == one.stat("hello").size


def test_read_only_server(connect: Connect, tree: Path) -> None:
    """EROFS with the path; reading works; nothing was made."""
    with connect(read_only=True) as client:
        assert client.limits.read_only
        attempts: list[Callable[[], object]] = [
            lambda: client.write_bytes("hello", b""),
            lambda: client.write_bytes("new", b""),
            lambda: client.mkdir("new"),
            lambda: client.unlink("hello"),
            lambda: client.rename("hello", "new"),
        ]
        for attempt in attempts:
            with fails(errno.EROFS):
                attempt()
        assert client.read_bytes("hello") == b"hello, world\n"
    assert not (tree / "new").exists()


def test_a_deep_tree(connect: Connect, tree: Path) -> None:
    """Paths much longer than one walk are gone over and over, and the FIDs on the way do not pile up."""
    path, at = b"", os.open(tree, os.O_RDONLY)
    for _ in range(800):
        os.mkdir("deep", dir_fd=at)
        below = os.open("deep", os.O_RDONLY, dir_fd=at)
        os.close(at)
        path, at = path + b"deep/", below
    os.close(at)
    with connect(max_fids=1500) as client:
        for _ in range(10):
            assert list(client.scandir(path)) == []
    subprocess.run(["rm", "-r", tree / "deep"], check=True)  # which is too deep for shutil.rmtree
